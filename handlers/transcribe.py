"""transcribe: turns speech into text, subtitles, karaoke and word times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from gpu_dispatch.speech_options import check_options
from gpu_dispatch.task import GpuResult, TranscribeParams
from gpu_dispatch.transcript import Quality, Transcript
from handlers.base import ANY, Finished, OutputFile, Plan, PlannedTask, Planning, Reference, Value
from handlers.files import file_name, link, output_keys, payload_of, stem, task_file
from handlers.scripts import check_script, script_blocks, script_references, script_stats
from handlers.subtitles.cues import make_cues
from handlers.subtitles.documents import DOCUMENTS, TranscriptViews
from handlers.subtitles.limits import CueLimits
from handlers.subtitles.model import Cue, Segmenter, Speech
from handlers.subtitles.retimed import retimed_cues
from handlers.subtitles.text import language_tag
from handlers.subtitles.words import speech_of
from handlers.subtitles.wordsjson import language_probability, text_of
from manifests.errors import NoSpeech
from manifests.models import SubtitleFormat, Transcribe
from manifests.options import RecognitionOptions, SoundSource

DONE = "Transcription completed successfully"
SILENT = f"{DONE}: no speech was found, so the files hold no text"
TRANSLATED = "en"
"""The language of every translation."""


class TranscribeHandler:
    """Handles transcribe. `segmenter` makes the cues of all subtitle formats."""

    operation = "transcribe"
    model = Transcribe

    def __init__(self, segmenter: Segmenter = make_cues) -> None:
        self._segmenter = segmenter

    def references(self, manifest: Transcribe) -> tuple[Reference, ...]:
        """Returns the audio and the script. Raises ManifestError, OptionUnsupported and LanguageUnsupported before
        anything is fetched."""
        check_options(manifest)
        return (Reference("audio", manifest.audio), *script_references(manifest))

    def plan(self, planning: Planning[Transcribe]) -> Plan:
        asked = planning.manifest
        audio = task_file("audio", planning.inputs["audio"])
        script = script_blocks(asked, planning.inputs)
        options = {**RecognitionOptions.fields_of(asked), **SoundSource.fields_of(asked)}
        if script:  # it is placed by the times of words
            options |= {"timestamps": None, "word_timestamps": True}
        params = TranscribeParams(audio=audio.name, script=script, keep_script=asked.retime is not None, **options)
        writes = dict.fromkeys(_keys(planning, ANY).values())
        return Plan(self.operation, (PlannedTask(params, (audio,)),), tuple(writes))

    def finish(self, planning: Planning[Transcribe], plan: Plan, results: tuple[GpuResult, ...]) -> Finished:
        transcript = payload_of(results[0], Transcript)
        check_script(plan, results[0], transcript)
        speech = speech_of(transcript)
        if not speech.words and planning.manifest.require_speech:
            raise NoSpeech(
                " ".join(("No speech was found in the audio.", *transcript.warnings)),
                hint="Check that it is the right file, or leave require_speech out to accept silence.",
                where="audio",
            )
        language = TRANSLATED if planning.manifest.translate else transcript.language
        cues = self._cues(planning, plan, speech)
        return Finished(
            message=DONE if speech.words else " ".join((f"{SILENT}.", *transcript.warnings)).rstrip("."),
            outputs=self._documents(planning, TranscriptViews(transcript, speech, cues, language)),
            response={
                "job_id": results[0].task_id,
                "language": language,
                "source_language": transcript.language,
                "language_probability": language_probability(transcript),
                "transcription": text_of(transcript),
                "files": _files(_keys(planning, transcript.language)),
                **({"warnings": transcript.warnings} if transcript.warnings else {}),
            },
            stats={
                "segments": len(speech.segments),
                "words": len(speech.words),
                "model": transcript.model,
                "device": transcript.device,
                "engine": transcript.engine,
                "duration": transcript.duration,
                "speech": bool(speech.words),
                **_quality(transcript.quality),
                **script_stats(transcript.script),
            },
        )

    def _cues(self, planning: Planning[Transcribe], plan: Plan, speech: Speech) -> tuple[Cue, ...]:
        """Returns the cues of subtitles that are timed anew, else those of the segmenter."""
        params, limits = plan.tasks[0].params, CueLimits.of(planning.manifest.subtitles)
        if isinstance(params, TranscribeParams) and params.keep_script:
            return retimed_cues(params.script, speech.words, limits)
        return self._segmenter(speech, limits)

    def _documents(self, planning: Planning[Transcribe], views: TranscriptViews) -> tuple[OutputFile, ...]:
        """Returns one file for each format, however often it is named."""
        keys = _keys(planning, views.transcript.language)
        kinds = ((keys[wanted], DOCUMENTS[wanted]) for wanted in keys)
        return tuple(OutputFile(key, kind.write(views).encode(), kind.content_type) for key, kind in kinds)


def _keys(planning: Planning[Transcribe], heard: str) -> dict[SubtitleFormat, str]:
    """Returns the key of each format: the fixed names, or MEDIA.LANGUAGE.EXTENSION, which players pick up.

    The language is as the manifest writes it, such as pt-BR, where it says; `heard` otherwise, or ANY before that.
    """
    names = {wanted: kind.name for wanted, kind in DOCUMENTS.items()}
    if planning.manifest.naming == "media":
        base = stem(file_name(planning.inputs["audio"].media) or planning.name)
        asked = TRANSLATED if planning.manifest.translate else planning.manifest.language
        code = asked or (heard if heard == ANY else language_tag(heard))
        names = {wanted: f"{base}.{code}.{kind.suffix}" for wanted, kind in DOCUMENTS.items()}
    formats = planning.manifest.formats
    return dict(zip(formats, output_keys(planning, [names[wanted] for wanted in formats]), strict=True))


def _quality(quality: Quality | None) -> Mapping[str, Value]:
    """Returns the block by which a transcript is checked; nothing where the worker told nothing."""
    if quality is None:
        return {}
    doubtful = tuple(
        {"word": w.text.strip(), "start": w.start, "end": w.end, "probability": round(w.probability, 2)}
        for w in quality.doubtful
    )
    loops = tuple({"text": loop.text, "start": loop.start, "times": loop.times} for loop in quality.loops)
    return {"quality": {**asdict(quality), "doubtful": doubtful, "loops": loops}}


def _files(keys: Mapping[SubtitleFormat, str]) -> Mapping[str, Value]:
    """Returns the files in the earlier API's shape; "" for one that was not asked for."""
    words = link(keys.get("json"))
    return {
        "segments": {
            "srt": link(keys.get("srt")),
            "vtt": link(keys.get("vtt")),
            "ttml": link(keys.get("ttml")),
            "json": words,
        },
        "words": {
            "ass_karaoke": link(keys.get("ass")),
            "vtt_karaoke": link(keys.get("vtt_karaoke")),
            "lrc": link(keys.get("lrc")),
            "json": words,
        },
        "transcript": {"txt": link(keys.get("txt"))},
    }
