"""The parts of every subtitle document. Times are whole milliseconds from the start of the media."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from handlers.subtitles.limits import CueLimits

MAX_MS = 35_996_400_000
"""9999 hours, as many as four digits tell, and more than any input holds; later times are held to it."""


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word and its times."""

    text: str
    """With its leading space, if its script has one: joining the texts gives the sentence."""
    start_ms: int
    end_ms: int
    """After `start_ms` in a cleaned transcript; only a piece of a word too long for its line may last 0 ms."""
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class CueLine:
    """One line of a cue; never blank."""

    text: str
    words: tuple[TimedWord, ...] = ()
    """Joined and stripped they are `text`; () when their times are unknown."""


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
    """A cleaned transcript: words in order, none overlapping, none without length."""

    language: str
    duration_ms: int
    segments: tuple[tuple[TimedWord, ...], ...]
    """The words, grouped as they were recognised."""
    timed: bool = True
    """False when times of words were derived from their segment's."""

    @property
    def words(self) -> tuple[TimedWord, ...]:
        return tuple(word for segment in self.segments for word in segment)


Segmenter = Callable[[Speech, CueLimits], tuple[Cue, ...]]
"""Makes cues of speech. Every word appears once, in order; cues neither overlap nor are empty."""


@dataclass(frozen=True, slots=True)
class Subtitles:
    """A parsed document."""

    cues: tuple[Cue, ...]
    """In order, not overlapping, each with the words of its lines."""
    language: str = ""
    timed: bool = False
    """Whether the document has the words' times; otherwise they are derived from their cue's."""
