"""ASS and SSA, read: what is said and when; how it looks is left behind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from handlers.subtitles.model import TimedWord
from handlers.subtitles.reading import MAX_EVENTS, RawCue, check_count, clock_ms, timed_words, unreadable
from handlers.subtitles.text import plain

_CLOCK = re.compile(r"\s*(\d{1,4}):(\d{1,2}):(\d{1,2})(?:[.,:](\d{1,3}))?\s*", re.ASCII)
_PIECE = re.compile(r"\\([Nnh{}])|\{([^{}]*)\}|([^\\{]+|.)", re.DOTALL)
_KARAOKE = re.compile(r"\\[kK][fo]?(\d{1,7})", re.ASCII)
_DRAWING = re.compile(r"\\p(\d)", re.ASCII)
_FIELDS = ("layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text")


@dataclass(slots=True)
class _Reading:
    """An event's text on its way: timed parts line by line, and the syllable that is being read."""

    rows: list[list[tuple[str, int, int]]] = field(default_factory=lambda: [[]])
    start: int = 0
    length: int = 0
    karaoke: bool = False
    drawing: bool = False

    def override(self, block: str) -> None:
        if (drawing := _DRAWING.search(block)) is not None:
            self.drawing = drawing[1] != "0"
        for syllable in _KARAOKE.finditer(block):
            self.karaoke = True
            self.start += self.length
            self.length = int(syllable[1]) * 10

    def say(self, text: str) -> None:
        if not self.drawing:
            self.rows[-1].append((text, self.start, self.start + self.length))


def read_ass(lines: Sequence[str]) -> list[RawCue]:
    cues: list[RawCue] = []
    fields = _FIELDS
    for number, line in enumerate(lines, start=1):
        kind, _, rest = line.strip().partition(":")
        if kind.lower() == "format" and "text" in rest.lower():
            fields = tuple(name.strip().lower() for name in rest.split(","))
        elif kind.lower() == "dialogue":
            cues.append(_event(rest, fields, number))
            check_count(len(cues), number, MAX_EVENTS)
    if not cues:
        raise unreadable("no event was found in it", 1, "a line that starts with 'Dialogue:'")
    return cues


def _event(rest: str, fields: Sequence[str], number: int) -> RawCue:
    values = dict(zip(fields, rest.split(",", len(fields) - 1), strict=False))
    start = _CLOCK.fullmatch(values.get("start", ""))
    end = _CLOCK.fullmatch(values.get("end", ""))
    if start is None or end is None:
        raise unreadable("an event's times cannot be read", number, "Dialogue: 0,0:00:01.00,0:00:02.50,…")
    begin, until = clock_ms(*start.groups()), clock_ms(*end.groups())
    reading = _read(values.get("text", ""), begin)
    text = tuple(t for row in reading.rows if (t := plain("".join(part for part, _, _ in row))))
    words: tuple[tuple[TimedWord, ...], ...] = ()
    if reading.karaoke:
        words = tuple(w for row in reading.rows if (w := timed_words(_joined(row))))
    return RawCue(begin, until, text, words=words, line=number)


def _read(text: str, start: int) -> _Reading:
    reading = _Reading(start=start)
    for piece in _PIECE.finditer(text):
        sign, block, said = piece.groups()
        if block is not None:
            reading.override(block)
        elif sign in ("N", "n"):
            reading.rows.append([])
        else:
            reading.say(" " if sign == "h" else sign or said or "")
    return reading


def _joined(row: Sequence[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Parts of one syllable, which overrides or escapes divided, in one piece again."""
    parts: list[tuple[str, int, int]] = []
    for text, start, end in row:
        if parts and parts[-1][1:] == (start, end):
            parts[-1] = (parts[-1][0] + text, start, end)
        else:
            parts.append((text, start, end))
    return parts
