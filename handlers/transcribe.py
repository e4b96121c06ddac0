"""transcribe: turns speech into text, subtitles, karaoke and word times."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gpu_dispatch.task import GpuResult, TranscribeParams, Transcript
from handlers.base import ANY, Finished, OutputFile, Plan, PlannedTask, Planning, Reference, Value
from handlers.files import file_name, link, output_keys, payload_of, stem, task_file
from handlers.subtitles.burn_in import write_ass
from handlers.subtitles.cues import make_cues
from handlers.subtitles.limits import CueLimits
from handlers.subtitles.lrc import write_lrc, write_txt
from handlers.subtitles.model import Cue, Segmenter, Speech
from handlers.subtitles.srt import write_srt
from handlers.subtitles.vtt import write_vtt
from handlers.subtitles.words import speech_of
from handlers.subtitles.wordsjson import write_words_json
from manifests.errors import NoSpeech
from manifests.models import SubtitleFormat, Transcribe
from manifests.options import CaptionStyle, RecognitionOptions

DONE = "Transcription completed successfully"
SILENT = f"{DONE}: no speech was found, so the files hold no text"
KARAOKE = CaptionStyle(style="fill")

_FIXED: dict[SubtitleFormat, str] = {
    "srt": "segments.srt",
    "ass": "karaoke.ass",
    "json": "words.json",
    "vtt": "segments.vtt",
    "lrc": "karaoke.lrc",
    "txt": "transcript.txt",
}
_CONTENT_TYPES: dict[SubtitleFormat, str] = {
    "srt": "application/x-subrip; charset=utf-8",
    "ass": "text/x-ssa; charset=utf-8",
    "json": "application/json; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "lrc": "text/plain; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
}
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class TranscribeHandler:
    """Handles transcribe. `segmenter` makes the cues of all subtitle formats."""

    operation = "transcribe"
    model = Transcribe

    def __init__(self, segmenter: Segmenter = make_cues) -> None:
        self._segmenter = segmenter

    def references(self, manifest: Transcribe) -> tuple[Reference, ...]:
        return (Reference("audio", manifest.audio),)

    def plan(self, planning: Planning[Transcribe]) -> Plan:
        asked = planning.manifest
        audio = task_file("audio", planning.inputs["audio"])
        params = TranscribeParams(audio=audio.name, **RecognitionOptions.fields_of(asked))
        spoken_in = "en" if asked.translate else asked.language
        writes = dict.fromkeys(_keys(planning, spoken_in or ANY).values())
        return Plan(self.operation, (PlannedTask(params, (audio,)),), tuple(writes))

    def finish(self, planning: Planning[Transcribe], plan: Plan, results: tuple[GpuResult, ...]) -> Finished:  # noqa: ARG002
        transcript = payload_of(results[0], Transcript)
        speech = speech_of(transcript)
        if not speech.words and planning.manifest.require_speech:
            raise NoSpeech(
                "No speech was found in the audio.",
                hint="Check that it is the right file, or leave require_speech out to accept silence.",
                where="audio",
            )
        spoken_in = "en" if planning.manifest.translate else transcript.language
        keys = _keys(planning, spoken_in)
        cues = self._segmenter(speech, CueLimits.of(planning.manifest.subtitles))
        texts = self._write(planning.manifest.formats, transcript, speech, cues)
        return Finished(
            message=DONE if speech.words else SILENT,
            outputs=tuple(OutputFile(keys[f], text, _CONTENT_TYPES[f]) for f, text in texts.items()),
            response={
                "job_id": results[0].task_id,
                "language": transcript.language,
                "transcription": " ".join(write_txt(speech).split()),
                "files": _files(keys),
            },
            stats={
                "segments": len(speech.segments),
                "words": len(speech.words),
                "model": transcript.model,
                "device": transcript.device,
                "engine": transcript.engine,
                "duration": transcript.duration,
            },
        )

    def _write(
        self, formats: tuple[SubtitleFormat, ...], transcript: Transcript, speech: Speech, cues: tuple[Cue, ...]
    ) -> dict[SubtitleFormat, bytes]:
        """Returns one document for each format, however often it is named."""
        texts: dict[SubtitleFormat, bytes] = {}
        for wanted in dict.fromkeys(formats):
            match wanted:
                case "srt":
                    text = write_srt(cues)
                case "vtt":
                    text = write_vtt(cues)
                case "ass":
                    text = write_ass(cues, KARAOKE, 1920, 1080)
                case "lrc":
                    text = write_lrc(cues, duration_ms=speech.duration_ms, timed=speech.timed)
                case "json":
                    text = write_words_json(transcript, speech)
                case "txt":
                    text = write_txt(speech)
            texts[wanted] = text.encode()
        return texts


def _keys(planning: Planning[Transcribe], language: str) -> dict[SubtitleFormat, str]:
    """Returns the key of each format: the fixed names, or MEDIA.LANGUAGE.EXTENSION, which players pick up."""
    names = _FIXED
    if planning.manifest.naming == "media":
        base = stem(file_name(planning.inputs["audio"].media) or planning.name)
        code = language if language == ANY or _LANGUAGE.fullmatch(language) else "und"
        names = {wanted: f"{base}.{code}.{wanted}" for wanted in _FIXED}
    formats = planning.manifest.formats
    return dict(zip(formats, output_keys(planning, [names[wanted] for wanted in formats]), strict=True))


def _files(keys: Mapping[SubtitleFormat, str]) -> Mapping[str, Value]:
    """Returns the files in the earlier API's shape; "" for one that was not asked for. Word-timed VTT is not made."""
    words = link(keys.get("json"))
    return {
        "segments": {"srt": link(keys.get("srt")), "vtt": link(keys.get("vtt")), "json": words},
        "words": {
            "ass_karaoke": link(keys.get("ass")),
            "vtt_karaoke": "",
            "lrc": link(keys.get("lrc")),
            "json": words,
        },
        "transcript": {"txt": link(keys.get("txt"))},
    }
