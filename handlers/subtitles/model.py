"""What every subtitle document is made of. Times are whole milliseconds from the start of the media."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MAX_MS = 359_999_990
"""99:59:59.99: what a recogniser puts later than this is no time."""


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word with its leading space, if its script puts one there: joining the texts gives the sentence.

    `end_ms` > `start_ms` in a cleaned transcript; only a piece of a word too long for its line may last 0 ms.
    """

    text: str
    start_ms: int
    end_ms: int
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class CueLine:
    """One line of a cue; never blank. `words`, joined and stripped, are `text`; () when their times are unknown."""

    text: str
    words: tuple[TimedWord, ...] = ()


@dataclass(frozen=True, slots=True)
class Cue:
    """Text on the screen from `start_ms` until before `end_ms`; at least one line."""

    start_ms: int
    end_ms: int
    lines: tuple[CueLine, ...]

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)

    @property
    def words(self) -> tuple[TimedWord, ...]:
        return tuple(word for line in self.lines for word in line.words)


@dataclass(frozen=True, slots=True)
class Speech:
    """A transcript made clean: words in order, none overlapping, none without length, grouped as they were recognised.

    `timed` is false where the words' times were worked out from their segment's.
    """

    language: str
    duration_ms: int
    segments: tuple[tuple[TimedWord, ...], ...]
    timed: bool = True

    @property
    def words(self) -> tuple[TimedWord, ...]:
        return tuple(word for segment in self.segments for word in segment)


Segmenter = Callable[[Speech], tuple[Cue, ...]]
"""Makes cues of speech. Every word appears once, in order; cues neither overlap nor are empty."""


@dataclass(frozen=True, slots=True)
class Subtitles:
    """A document read: cues in order, not overlapping, each with the words of its lines."""

    cues: tuple[Cue, ...]
    language: str = ""
    timed: bool = False
    """Whether the words' times stood in the document, or were worked out from their cue's."""
