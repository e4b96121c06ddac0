"""WebVTT: https://www.w3.org/TR/webvtt1/"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from handlers.subtitles.model import Cue, TimedWord
from handlers.subtitles.raw_cues import (
    MAX_CUE_SOURCE,
    RawCue,
    check_count,
    check_cue,
    check_words,
    clock_ms,
    is_malformed_timing,
    subtitles_unreadable,
    timed_words,
    timing_of,
)
from handlers.subtitles.text import plain_line, without_breaks

_STAMP = re.compile(r"<(?:(\d{1,4}):)?(\d{2}):(\d{2})\.(\d{3})>", re.ASCII)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|</?>")
_LONG_NUMBER = re.compile(r"&#([0-9]{8,})(;?)")
"""A reference with so many digits that Python may refuse to convert it."""


def write_vtt(cues: Sequence[Cue]) -> str:
    blocks = [f"{_clock(c.start_ms)} --> {_clock(c.end_ms)}\n{_escaped(c.text)}\n" for c in cues]
    return "\n".join(["WEBVTT\n", *blocks])


def write_karaoke_vtt(cues: Sequence[Cue], *, timed: bool = True) -> str:
    """Writes each word as a span after its time stamp, which browsers style by `::cue(:past)` and `::cue(:future)`.

    A pause has a stamp of its own, at the end of the word before it. Without `timed` words there are no stamps.
    """
    if not timed:
        return write_vtt(cues)
    blocks = [f"{_clock(c.start_ms)} --> {_clock(c.end_ms)}\n{_stamped(c)}\n" for c in cues]
    return "\n".join(["WEBVTT\n", *blocks])


def _stamped(cue: Cue) -> str:
    """Returns the cue's text with stamps, each later than the one before and inside the cue, as the format demands."""
    clock = cue.start_ms

    def stamp(ms: int) -> str:
        nonlocal clock
        if not clock < ms < cue.end_ms:
            return ""
        clock = ms
        return f"<{_clock(ms)}>"

    parts: list[str] = []
    said = cue.start_ms
    for number, line in enumerate(cue.lines):
        begin = "\n" if number else ""
        if not line.words:
            parts.append(begin + _escaped(line.text))
        for i, word in enumerate(line.words):
            bare = word.text.lstrip()
            lead = begin if i == 0 else word.text[: len(word.text) - len(bare)]
            parts += (stamp(said) if word.start_ms > said else "", lead, stamp(word.start_ms))
            parts.append(f"<c>{_escaped(bare)}</c>")
            said = word.end_ms
    return "".join(parts) + stamp(said)


def _escaped(text: str) -> str:
    return html.escape(without_breaks(text), quote=False)


def _clock(ms: int) -> str:
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def read_vtt(lines: Sequence[str]) -> list[RawCue]:
    """Reads the blocks between blank lines; ignores those without a timing (notes, styles, regions)."""
    cues: list[RawCue] = []
    i = words = 0
    while i < len(lines):
        timing = timing_of(lines[i])
        if timing is None:
            if is_malformed_timing(lines[i]):
                raise subtitles_unreadable("its timing cannot be read", i + 1, "00:00:01.000 --> 00:00:02.500")
            i += 1
            continue
        body: list[str] = []
        begin = i
        i += 1
        while i < len(lines) and lines[i].strip() and timing_of(lines[i]) is None:
            body.append(lines[i])
            i += 1
        check_cue(sum(map(len, body)), begin + 1, MAX_CUE_SOURCE)
        cues.append(_cue(timing[0], timing[1], body, begin + 1))
        check_count(len(cues), begin + 1)
        words += sum(map(len, cues[-1].words))
        check_words(words, begin + 1)
    if not cues:
        raise subtitles_unreadable("no cue was found in it", 1, "a line such as 00:00:01.000 --> 00:00:02.500")
    return cues


def _cue(start: int, end: int, body: Sequence[str], line: int) -> RawCue:
    bare = [_TAG.sub("", text) for text in body]
    text = tuple(t for b in bare if (t := plain_line(_unescaped(_STAMP.sub("", b)))))
    return RawCue(start, end, text, words=_words(bare, start, end), line=line)


def _words(bare: Sequence[str], start: int, end: int) -> tuple[tuple[TimedWord, ...], ...]:
    """Returns the words between timestamps, each from the stamp before it to the next one; () without stamps."""
    if not any(_STAMP.search(text) for text in bare):
        return ()
    found: list[list[tuple[str, int]]] = []
    now = start
    for text in bare:
        parts = _STAMP.split(text)
        row = [(parts[0], now)] if parts[0] else []
        for k in range(1, len(parts), 5):
            now = min(max(clock_ms(parts[k] or None, *parts[k + 1 : k + 4]), now), max(start, end))
            row.append((parts[k + 4], now))
        found.append(row)
    starts = [at for row in found for _, at in row]
    ends = iter([*starts[1:], max(start, end)])
    lines = (timed_words([(_unescaped(part), at, next(ends)) for part, at in row]) for row in found)
    return tuple(line for line in lines if line)


def _unescaped(text: str) -> str:
    return html.unescape(_LONG_NUMBER.sub(_short_number, text)) if "&" in text else text


def _short_number(reference: re.Match[str]) -> str:
    """Returns the same reference with fewer digits; U+FFFD where no character has that number."""
    digits = reference[1].lstrip("0") or "0"
    return f"&#{digits}{reference[2]}" if len(digits) < 8 else "\ufffd"
