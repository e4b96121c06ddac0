"""What the readers of all formats share: raw cues, notations of time, and how a document is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from handlers.subtitles.model import TimedWord
from handlers.subtitles.text import plain_line, tokens
from handlers.subtitles.words import spread
from manifests.errors import SubtitlesUnreadable

MAX_CUES = 50_000
MAX_EVENTS = 500_000
"""Cues of a document that draws each one in several steps."""
MAX_CUE_CHARACTERS = 2_000
MAX_CUE_SOURCE = 50_000
"""Characters of one cue as written, with its tags and blanks."""
MAX_LINES = 1_000_000
MAX_TAGS = 500_000
MAX_WORDS = 300_000
"""More than a day of speech. Each takes some 200 bytes as an object."""

_TIME = r"(?:(\d{1,4}):)?(\d{1,3}):(\d{1,2})(?:[.,:](\d{1,9}))?"
_TIMING = re.compile(rf"\s*{_TIME}\s*-{{1,2}}>\s*{_TIME}(?:\s+(.*))?\s*", re.ASCII | re.DOTALL)
_MALFORMED = re.compile(r"\s*\d+[:.,][\d:.,\s]*-->", re.ASCII)


@dataclass(frozen=True, slots=True)
class RawCue:
    """A cue as it stands in a document."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    words: tuple[tuple[TimedWord, ...], ...] = ()
    """By line; () where the document does not time them."""
    line: int = 0
    """The cue's first line in the document, from 1."""


def subtitles_unreadable(problem: str, line: int, expected: str) -> SubtitlesUnreadable:
    return SubtitlesUnreadable(
        f"The subtitles cannot be read: {problem} (line {line}; expected {expected}).",
        hint="Use SRT, WebVTT, ASS or the words.json of a transcription, in UTF-8.",
        where=f"line {line}",
    )


def check_count(count: int, line: int, limit: int = MAX_CUES) -> None:
    if count > limit:
        raise subtitles_unreadable(f"it has more than {limit} cues", line, "the end of the document")


def check_marks(text: str, mark: str, limit: int, what: str) -> None:
    """Refuses, before any other work, a document in which `mark` occurs more than `limit` times."""
    if text.count(mark) > limit:
        raise subtitles_unreadable(f"it has more than {limit} {what}", 1, "fewer of them")


def check_words(count: int, line: int) -> None:
    if count > MAX_WORDS:
        raise subtitles_unreadable(f"it has more than {MAX_WORDS} words", line, "the end of the document")


def check_cue(characters: int, line: int, limit: int = MAX_CUE_CHARACTERS) -> None:
    if characters > limit:
        raise subtitles_unreadable(f"a cue is longer than {limit} characters", line, "a blank line after it")


def timing_of(line: str) -> tuple[int, int, str] | None:
    """Returns start and end in milliseconds, and what follows them, of an SRT or VTT timing line; None for others."""
    if "->" not in line:
        return None
    match = _TIMING.fullmatch(line)
    if match is None:
        return None
    start, end = clock_ms(*match.group(1, 2, 3, 4)), clock_ms(*match.group(5, 6, 7, 8))
    return (start, end, match[9] or "")


def is_malformed_timing(line: str) -> bool:
    """Returns whether `line` was meant as a timing line but is none."""
    return "-->" in line and _MALFORMED.match(line) is not None


def clock_ms(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> int:
    """Converts the parts of a time to milliseconds."""
    ms = int(((fraction or "0") + "00")[:3])
    return ((int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + ms


def timed_words(parts: Sequence[tuple[str, int, int]]) -> tuple[TimedWord, ...]:
    """Makes words of a line's timed parts (text, start, end), which need be neither whole words nor single ones."""
    words: list[TimedWord] = []
    space = False
    for text, start, end in parts:
        bare = plain_line(text)
        if not bare:
            space = space or (text != "" and text.isspace())
            continue
        first, *rest = (
            spread(tokens(bare), start, end) if " " in bare or not bare.isascii() else (TimedWord(bare, start, end),)
        )
        spaced = space or text[0].isspace()
        words += [replace(first, text=" " + first.text) if words and spaced else first, *rest]
        space = text[-1].isspace()
    return tuple(words)
