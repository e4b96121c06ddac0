"""A user's script: from a text, Markdown or subtitle file to the blocks that a recording is matched with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from gpu_dispatch.task import GpuResult, TranscribeParams
from gpu_dispatch.transcript import ScriptReport, Transcript
from handlers.base import Input, Plan, Reference, Value
from handlers.files import file_name
from handlers.markdown import markdown_text
from handlers.subtitles.parser import decode_subtitles, parse_subtitles
from handlers.subtitles.text import plain_line
from manifests.errors import InputMissing, ManifestError, ScriptUnreadable, SubtitlesUnreadable, WorkerError
from manifests.models import MAX_SCRIPT_CHARACTERS, Transcribe

MAX_SCRIPT_BYTES = 2**20
"""Some twenty hours of speech."""
MAX_SUBTITLE_BYTES = 10 * 2**20

SUBTITLE_KINDS = frozenset({".srt", ".vtt", ".ass", ".ssa"})
MARKDOWN_KINDS = frozenset({".md", ".markdown"})

_HINT = "Name a text (.txt), Markdown (.md) or subtitle file (.srt, .vtt), in UTF-8."
_BINARY = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_FOREIGN = {"%PDF-": "a PDF", "PK\x03\x04": "a ZIP or a word processor's document", "{\\rtf": "an RTF document"}
_DIRECTION = re.compile(r"\[[^\[\]\n]{0,1000}\]")
_DIRECTION_LINE = re.compile(
    r"^[ \t]*(?:(?:\[[^\[\]\n]{0,1000}\][ \t]*)+|[(（][^()（）\n]{0,1000}[)）][ \t]*)(?:\n|\Z)", re.MULTILINE
)
"""With its end: what is left would look like a blank line."""


def script_references(manifest: Transcribe) -> tuple[Reference, ...]:
    """Returns the file with the recording's text, if one is named. Raises ManifestError where two texts are given."""
    given = [name for name in ("script", "script_text", "retime") if getattr(manifest, name) is not None]
    if len(given) > 1:
        raise ManifestError(
            f"{' and '.join(given)} cannot be given together: each is the text of the recording.",
            hint="Name one of them.",
            where=given[1],
        )
    if given and manifest.translate:
        raise ManifestError(
            f"{given[0]} is what the recording says, so it cannot be combined with translate.",
            hint="Leave translate out.",
            where="translate",
        )
    if manifest.script is not None:
        return (Reference("script", manifest.script, read=True, max_bytes=MAX_SCRIPT_BYTES),)
    if manifest.retime is not None:
        return (Reference("retime", manifest.retime, read=True, max_bytes=MAX_SUBTITLE_BYTES),)
    return ()


def script_blocks(manifest: Transcribe, inputs: Mapping[str, Input]) -> tuple[str, ...]:
    """Returns the recording's text in blocks, () where none is given.

    A block is a paragraph, or a cue to be timed anew; a line end at its beginning is a blank line before it. Raises
    ScriptUnreadable, SubtitlesUnreadable or InputMissing.
    """
    if manifest.retime is not None:
        return tuple(cue.text for cue in parse_subtitles(_content(inputs, "retime")).cues)
    if manifest.script_text is not None:
        return _paragraphs(_cleaned(manifest.script_text, "script_text", manifest.stage_directions), "script_text")
    if manifest.script is None:
        return ()
    kind = PurePosixPath(file_name(inputs["script"].media)).suffix.lower()
    text = _script_text(_content(inputs, "script"), kind)
    return _paragraphs(_cleaned(text, "script", manifest.stage_directions), "script")


def check_script(plan: Plan, result: GpuResult, transcript: Transcript) -> None:
    """Raises WorkerError where the words should be a script's and are not: an earlier worker drops what it ignores."""
    params = plan.tasks[0].params
    if isinstance(params, TranscribeParams) and params.script and transcript.script is None:
        raise WorkerError(
            f"The worker's answer to {result.task_id} does not follow the script.",
            hint="Run listener and workers of the same version.",
        )


def script_stats(report: ScriptReport | None) -> Mapping[str, Value]:
    """Returns the done sidecar's part about how script and recording agree; nothing without a script."""
    if report is None:
        return {}
    differences = tuple({"start": d.start, "script": d.script, "heard": d.heard} for d in report.differences)
    return {
        "script": {
            "words": report.words,
            "unspoken": report.unspoken,
            "unwritten": report.unwritten,
            "changed": report.changed,
            "differences": differences,
        }
    }


def _content(inputs: Mapping[str, Input], role: str) -> bytes:
    content = inputs[role].content
    if content is None:
        raise InputMissing(
            f"The text {str(inputs[role].media)!r} does not lie in the store, so it cannot be read.",
            hint="Put the file into the bucket and name it there.",
            where=role,
        )
    return content


def _script_text(content: bytes, kind: str) -> str:
    if kind in SUBTITLE_KINDS:
        return "\n".join(cue.text for cue in parse_subtitles(content).cues)
    for begin, name in _FOREIGN.items():
        if content.startswith(begin.encode()):
            raise _unreadable(f"it is {name}", "script", "Save it as plain text.")
    try:
        text = decode_subtitles(content).replace("\r\n", "\n").replace("\r", "\n")
    except SubtitlesUnreadable as error:
        raise _unreadable("it is a binary file", "script", _HINT) from error
    if _BINARY.search(text):
        raise _unreadable("it is a binary file", "script", _HINT)
    return markdown_text(text) if kind in MARKDOWN_KINDS else text


def _cleaned(text: str, where: str, stage_directions: bool) -> str:
    """Returns `text` without stage directions: what stands in square brackets, and lines in parentheses."""
    if len(text) > MAX_SCRIPT_CHARACTERS:
        raise _unreadable(f"it has more than {MAX_SCRIPT_CHARACTERS:,} characters", where, "Name the recording's part.")
    if stage_directions:
        return text
    return _DIRECTION.sub("", _DIRECTION_LINE.sub("", text))


def _paragraphs(text: str, where: str) -> tuple[str, ...]:
    """Divides a text at its blank lines; one without any at every line."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = [plain_line(line) for line in text.split("\n")]
    groups: list[list[str]] = [[]]
    for line in lines:
        if line:
            groups[-1].append(line)
        elif groups[-1]:
            groups.append([])
    groups = [group for group in groups if group]
    if len(groups) == 1:
        blocks = tuple(groups[0])
    else:
        blocks = tuple(("\n" if n else "") + "\n".join(group) for n, group in enumerate(groups))
    if not any(c.isalnum() for block in blocks for c in block):
        raise _unreadable("it holds no words", where, _HINT)
    return blocks


def _unreadable(problem: str, where: str, hint: str) -> ScriptUnreadable:
    return ScriptUnreadable(f"The script cannot be used: {problem}.", hint=hint, where=where)
