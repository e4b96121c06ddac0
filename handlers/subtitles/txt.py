"""The bare text: a line a segment."""

from __future__ import annotations

from handlers.subtitles.model import Speech


def write_txt(speech: Speech) -> str:
    lines = ("".join(word.text for word in segment).strip() for segment in speech.segments)
    return "".join(line + "\n" for line in lines) or "\n"
