"""The files that are made of a transcript: name, media type and writer of each format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gpu_dispatch.transcript import Transcript
from handlers.subtitles.burn_in import write_ass
from handlers.subtitles.lrc import write_lrc
from handlers.subtitles.model import Cue, Speech
from handlers.subtitles.srt import write_srt
from handlers.subtitles.ttml import write_ttml
from handlers.subtitles.txt import write_script, write_txt
from handlers.subtitles.vtt import write_karaoke_vtt, write_vtt
from handlers.subtitles.wordsjson import write_words_json
from manifests.models import SubtitleFormat
from manifests.options import CaptionStyle

KARAOKE = CaptionStyle(style="fill")
KARAOKE_WIDTH, KARAOKE_HEIGHT = 1920, 1080


@dataclass(frozen=True, slots=True)
class TranscriptViews:
    """A transcript as its writers need it."""

    transcript: Transcript
    speech: Speech
    cues: tuple[Cue, ...]
    language: str
    """Of the text: that of the sound, or "en" for a translation."""


@dataclass(frozen=True, slots=True)
class DocumentFormat:
    """One kind of file."""

    name: str
    suffix: str
    """What follows the medium's name and the language, where files are called after their medium."""
    media_type: str
    write: Callable[[TranscriptViews], str]

    @property
    def content_type(self) -> str:
        return f"{self.media_type}; charset=utf-8"


def _text(views: TranscriptViews) -> str:
    return write_script(views.transcript) if views.transcript.script else write_txt(views.speech)


DOCUMENTS: Mapping[SubtitleFormat, DocumentFormat] = {
    "srt": DocumentFormat("segments.srt", "srt", "application/x-subrip", lambda v: write_srt(v.cues)),
    "ass": DocumentFormat(
        "karaoke.ass", "ass", "text/x-ssa", lambda v: write_ass(v.cues, KARAOKE, KARAOKE_WIDTH, KARAOKE_HEIGHT)
    ),
    "json": DocumentFormat(
        "words.json",
        "json",
        "application/json",
        lambda v: write_words_json(v.transcript, v.speech, language=v.language),
    ),
    "vtt": DocumentFormat("segments.vtt", "vtt", "text/vtt", lambda v: write_vtt(v.cues)),
    "vtt_karaoke": DocumentFormat(
        "karaoke.vtt", "karaoke.vtt", "text/vtt", lambda v: write_karaoke_vtt(v.cues, timed=v.speech.timed)
    ),
    "lrc": DocumentFormat(
        "karaoke.lrc",
        "lrc",
        "text/plain",
        lambda v: write_lrc(v.cues, duration_ms=v.speech.duration_ms, timed=v.speech.timed),
    ),
    "ttml": DocumentFormat("segments.ttml", "ttml", "application/ttml+xml", lambda v: write_ttml(v.cues, v.language)),
    "txt": DocumentFormat("transcript.txt", "txt", "text/plain", _text),
}
