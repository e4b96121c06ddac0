"""Tells phrases that were said several times from those that a model only repeats.

Whisper falls into loops: it writes one line again and again over other speech, noise or nothing. A line that is really
said again has a time of its own, long enough to say it, and the same sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from gpu_dispatch.worker.speech.audio import Pcm
from gpu_dispatch.worker.speech.energy import Energy
from gpu_dispatch.worker.speech.likeness import comes_again

FASTEST = 30.0
"""Letters a second of sound; a hurried speaker of English reaches 25."""

ALIKE = 0.67
"""Likeness of one line said twice: 0.67 to 0.98 with the same voice at paces from 0.85 to 1.15; of lines that differ,
one pair in twenty exceeds this."""

APART_S = 0.15
"""Silence before and after a line that is said for itself."""

EVEN = 1.5
"""By so much the lengths of such lines may differ from the usual one."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """One time of a repeated phrase; times in seconds."""

    text: str
    start: float
    end: float


def nothing_said(repeats: Sequence[Repeat]) -> list[bool]:
    """Bears nothing out."""
    return [False] * len(repeats)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The sound, as a witness."""

    pcm: Pcm
    energy: Energy

    def bears_out(self, repeats: Sequence[Repeat]) -> list[bool]:
        """Returns for each of several times of one phrase whether the sound bears it out."""
        lengths = [self._sounding(r) for r in repeats]
        letters = [sum(c.isalnum() for c in r.text) for r in repeats]
        usual = median(lengths)
        return [
            lengths[i] * FASTEST >= letters[i]
            and (
                (self._stands_apart(repeats[i]) and usual / EVEN <= lengths[i] <= usual * EVEN)
                or any(
                    self._alike(repeats[j], repeats[i])
                    for j in range(max(0, i - 3), min(len(repeats), i + 4))
                    if j != i
                )
            )
            for i in range(len(repeats))
        ]

    def _alike(self, known: Repeat, other: Repeat) -> bool:
        return comes_again(self.pcm, known.start, known.end, other.start) >= ALIKE

    def _sounding(self, repeat: Repeat) -> float:
        return float(self.energy.sounding(repeat.end) - self.energy.sounding(repeat.start))

    def _stands_apart(self, repeat: Repeat) -> bool:
        """Whether the sound begins and ends with `repeat`."""
        before = self.energy.sounding(repeat.start) - self.energy.sounding(repeat.start - APART_S)
        after = self.energy.sounding(repeat.end + APART_S) - self.energy.sounding(repeat.end)
        return float(before) <= APART_S / 5 and float(after) <= APART_S / 5
