"""Cuts sound into pieces at its quietest moments. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_dispatch.worker.speech.engine import SAMPLE_RATE, Samples

FRAME = SAMPLE_RATE // 50
"""Samples whose energy is one value."""

PAUSE_FRAMES = 15
"""0.3 s: a pause between sentences is quiet for about so long, one inside a word is not."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of samples, from `start` up to but not including `end`."""

    start: int
    end: int


def cut_at_pauses(samples: Samples, *, shortest_s: float, longest_s: float) -> tuple[Piece, ...]:
    """Returns pieces that cover `samples`, each of `shortest_s` to `longest_s`; the last one may be shorter.

    Each is cut where PAUSE_FRAMES are the quietest together.
    """
    loud = _loudness(samples)
    shortest, longest = int(shortest_s * SAMPLE_RATE), int(longest_s * SAMPLE_RATE)
    pieces: list[Piece] = []
    start = 0
    while len(samples) - start > longest:
        first, last = (start + shortest) // FRAME, (start + longest) // FRAME
        end = (first + int(np.argmin(loud[first : max(last, first + 1)]))) * FRAME
        end = min(max(end, start + FRAME), start + longest)
        pieces.append(Piece(start, end))
        start = end
    if start < len(samples):
        pieces.append(Piece(start, len(samples)))
    return tuple(pieces)


def _loudness(samples: Samples) -> NDArray[np.float64]:
    """Returns the mean energy of PAUSE_FRAMES around each frame."""
    whole = len(samples) // FRAME * FRAME
    energy = np.square(samples[:whole].reshape(-1, FRAME), dtype=np.float64).mean(axis=1)
    if not len(energy):
        return np.zeros(1)
    padded = np.pad(energy, PAUSE_FRAMES // 2, mode="edge")
    sums = np.cumsum(np.append(0.0, padded))
    return (sums[PAUSE_FRAMES:] - sums[:-PAUSE_FRAMES]) / PAUSE_FRAMES
