"""What a reading of a script's words on their sound shows, and what it is found to mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from gpu_dispatch.worker.speech.forced_alignment import ForcedWord
from gpu_dispatch.worker.speech.script_places import Timing


@dataclass(slots=True)
class Findings:
    """What became of the words of the gaps."""

    said: dict[int, Timing] = field(default_factory=dict[int, Timing])
    """By script word."""
    unsaid: set[int] = field(default_factory=set[int])
    """Script words that are not said."""
    changed: set[int] = field(default_factory=set[int])
    """Script words for which something else is said; they are in `said`, too."""
    unwritten: dict[int, range] = field(default_factory=dict[int, range])
    """Heard words that the script lacks, by the script word before which they belong."""


@dataclass(frozen=True, slots=True)
class ScriptReading:
    """A text laid on sound, by script word."""

    likely: float
    """Logarithm of the probability of the whole text."""
    least: dict[int, float]
    timings: dict[int, Timing]

    @classmethod
    def of(cls, words: Sequence[ForcedWord], texts: Sequence[str], owners: Sequence[int], start: float) -> Self:
        """Deals the engine's words, which divide the same text otherwise, to those of the script by their letters."""
        least: dict[int, float] = {}
        timings: dict[int, Timing] = {}
        bounds: list[int] = []
        for text in texts:
            bounds.append((bounds[-1] if bounds else 0) + _size(text))
        at, n = 0, 0
        for word in words:
            while n < len(bounds) - 1 and bounds[n] <= at:
                n += 1
            size, owner = _size(word.text), owners[n]
            at += size
            if owner < 0 or not any(map(str.isalnum, word.text)):
                continue
            least[owner] = min(least.get(owner, 0.0), word.least)
            begun = timings.get(owner)
            begin = begun.start if begun else start + word.start
            timings[owner] = Timing(begin, max(begin, start + word.end), math.exp(least[owner]))
        unread = bool(texts) and not words  # too long for the engine: no likelier than anything
        likely = -math.inf if unread else sum(word.log_probability for word in words)
        return cls(likely, least, timings)


def _size(text: str) -> int:
    return sum(not c.isspace() for c in text)
