"""podcast: an audio file becomes a transcript with chapters in Markdown, and chapter marks that players show.

A handler is three pure functions. They read no file and know no clock: what they need stands in their arguments, what
should happen stands in what they return.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from pydantic import Field

from gpu_dispatch.task import GpuResult, TranscribeParams
from gpu_dispatch.transcript import Segment, Transcript
from handlers.base import Finished, Link, OutputFile, Plan, PlannedTask, Planning, Reference, TaskFile
from manifests.errors import NoSpeech, WorkerError
from manifests.models import Manifest
from manifests.models import Reference as File
from manifests.options import Language, ModelName

TITLE_CHARACTERS = 60


class Podcast(Manifest, frozen=True):
    """What a manifest of this operation may say, besides what every manifest may (path, callback_url, metadata)."""

    operation: Literal["podcast"] = "podcast"
    audio: File
    title: str | None = Field(default=None, max_length=200)
    model: ModelName = "base"
    language: Language | None = None
    chapter_minutes: float = Field(default=5.0, ge=0.1, le=120, description="About how long a chapter is.")


@dataclass(frozen=True, slots=True)
class Chapter:
    """Times in seconds."""

    title: str
    start: float
    end: float
    paragraphs: tuple[str, ...]


class PodcastHandler:
    operation = "podcast"
    model = Podcast

    def references(self, manifest: Podcast) -> tuple[Reference, ...]:
        """The files the manifest names. The run waits for them before it plans."""
        return (Reference("audio", manifest.audio),)

    def plan(self, planning: Planning[Podcast]) -> Plan:
        """One task for a machine with Whisper. It answers with a transcript and leaves no files of its own."""
        asked = planning.manifest
        params = TranscribeParams(audio="audio", model=asked.model, language=asked.language)
        return Plan(self.operation, (PlannedTask(params, (TaskFile("audio", planning.inputs["audio"].media),)),))

    def finish(self, planning: Planning[Podcast], plan: Plan, results: tuple[GpuResult, ...]) -> Finished:  # noqa: ARG002
        """Three small files, written by the run; the done sidecar tells their URLs."""
        transcript = results[0].payload
        if not isinstance(transcript, Transcript):
            raise WorkerError("The worker did not answer with a transcript.", hint="Update the worker.")
        chapters = chapters_of(transcript, planning.manifest.chapter_minutes * 60)
        if not chapters:
            raise NoSpeech("Nothing is said in the audio.", hint="Check that it is the right file.", where="audio")
        base = planning.folder + planning.name
        title = planning.manifest.title or planning.name
        outputs = (
            OutputFile(f"{base}.md", markdown(title, chapters).encode(), "text/markdown; charset=utf-8"),
            OutputFile(f"{base}.chapters.vtt", chapter_vtt(chapters).encode(), "text/vtt; charset=utf-8"),
            OutputFile(f"{base}.chapters.json", chapter_json(chapters).encode(), "application/json+chapters"),
        )
        return Finished(
            message=f"Podcast notes written: {len(chapters)} chapters",
            outputs=outputs,
            response={"files": {output.key.removeprefix(base + "."): Link(output.key) for output in outputs}},
            stats={"chapters": len(chapters), "duration": transcript.duration, "language": transcript.language},
        )


def chapters_of(transcript: Transcript, length_s: float) -> tuple[Chapter, ...]:
    """Chapters of about `length_s` seconds: each ends at the longest pause between half and one and a half of that."""
    spoken = [segment for segment in transcript.segments if segment.text.strip()]
    chapters: list[Chapter] = []
    while spoken:
        begin = spoken[0].start
        last = spoken[-1].end
        count = len(spoken) if last - begin <= 1.5 * length_s else _longest_pause(spoken, begin, length_s)
        part, spoken = spoken[:count], spoken[count:]
        texts = tuple(" ".join(segment.text.split()) for segment in part)
        chapters.append(Chapter(_title(texts[0]), begin, max(part[-1].end, begin), texts))
    return tuple(chapters)


def _longest_pause(segments: Sequence[Segment], begin: float, length_s: float) -> int:
    """How many segments come before the pause."""
    pauses = [
        (after.start - before.end, -i, i)
        for i, (before, after) in enumerate(pairwise(segments), start=1)
        if 0.5 * length_s <= after.start - begin <= 1.5 * length_s
    ]
    if pauses:
        return max(pauses)[2]
    return next((i for i, after in enumerate(segments) if after.start - begin > length_s), len(segments))


def _title(text: str) -> str:
    """The chapter's first words, cut between two of them."""
    if len(text) <= TITLE_CHARACTERS:
        return text.rstrip(".,;: ")
    cut = text[:TITLE_CHARACTERS]
    return (cut.rpartition(" ")[0] or cut).rstrip(".,;: ") + "…"


def markdown(title: str, chapters: Sequence[Chapter]) -> str:
    lines = [f"# {title}", ""]
    lines += [f"- {_clock(chapter.start)} {chapter.title}" for chapter in chapters]
    for chapter in chapters:
        lines += ["", f"## {chapter.title}", "", *chapter.paragraphs]
    return "\n".join(lines) + "\n"


def chapter_vtt(chapters: Sequence[Chapter]) -> str:
    """WebVTT chapters; "-->" and markup in a title are escaped."""
    blocks = ["WEBVTT", ""]
    for number, chapter in enumerate(chapters, start=1):
        title = chapter.title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        end = max(chapter.end, chapter.start + 0.001)
        blocks += [str(number), f"{_clock(chapter.start)}.{_ms(chapter.start)} --> {_clock(end)}.{_ms(end)}", title, ""]
    return "\n".join(blocks)


def chapter_json(chapters: Sequence[Chapter]) -> str:
    """The Podcasting 2.0 chapters format."""
    entries = [{"startTime": round(chapter.start, 3), "title": chapter.title} for chapter in chapters]
    return json.dumps({"version": "1.2.0", "chapters": entries}, ensure_ascii=False, indent=1) + "\n"


def _clock(seconds: float) -> str:
    whole = round(seconds * 1000) // 1000
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000) % 1000:03d}"
