"""The energy of a recording over time, and the stretches of it that stand out: where words can begin and end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_dispatch.worker.speech.audio import Pcm
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

FRAME_S = 0.005
_FRAME = int(FRAME_S * SAMPLE_RATE)
_SECOND = round(1 / FRAME_S)

PIECE_S = 60.0
"""Seconds that are measured at a time, together with the halves of their neighbours."""

NEAR_S = 4
"""A threshold heeds what is loud within so many seconds, and so a quiet speaker beside a loud one."""

QUIETER_DB = 25.0
"""How much quieter the quiet one may be."""

BELOW_LOUD_DB = 38.0
"""A word's softest sound, such as the f of "frozen", lies less than this below the loudest in a quiet room."""

ABOVE_FLOOR_DB = 8.0
"""What is to stand out of a steady noise does so by this much."""

CLEAR_DB = 6.0
"""The threshold stays so far below the loud parts: in steady sound nothing stands out, and all of it is one stretch."""

SHORTEST_GAP_S = 0.03
"""A shorter dip is a part of a sound."""

SHORTEST_SOUND_S = 0.02
"""A shorter peak is a click."""


@dataclass(frozen=True, slots=True)
class Energy:
    """Stretches of sound, by their times in seconds; five minutes of speech have some 600."""

    starts: Floats
    ends: Floats
    _before: Floats
    """Seconds of sound before each stretch."""

    def sounding(self, at: Floats | float) -> Floats:
        """Returns the seconds of sound before each moment `at`."""
        if not len(self.starts):
            return np.zeros_like(np.asarray(at, np.float64))
        i = np.maximum(np.searchsorted(self.starts, at, side="right") - 1, 0)
        return self._before[i] + np.clip(at - self.starts[i], 0.0, self.ends[i] - self.starts[i])

    def moment(self, sounding: Floats) -> Floats:
        """Returns the moments before which there are so many seconds of sound; there must be some sound."""
        i = np.maximum(np.searchsorted(self._before, sounding, side="right") - 1, 0)
        return self.starts[i] + np.clip(sounding - self._before[i], 0.0, self.ends[i] - self.starts[i])

    def pause_before(self, at: Floats) -> Floats:
        """Returns the seconds of silence that end at each moment: 0 where no stretch starts."""
        gaps = np.concatenate([[1.0], self.starts[1:] - self.ends[:-1]])
        i = np.minimum(np.searchsorted(self.starts, at), len(self.starts) - 1)
        return np.where(self.starts[i] == at, gaps[i], 0.0)

    def between(self, start: float, end: float) -> slice:
        """Returns which stretches start within [start, end)."""
        return slice(*(int(i) for i in np.searchsorted(self.starts, [start, end])))


def energy_of(pcm: Pcm) -> Energy:
    """Finds the stretches of sound in `pcm`, a piece at a time: hours take little more memory than minutes."""
    bounds = list(_loud(pcm))
    found = np.concatenate(bounds) if bounds else np.zeros((0, 2), np.intp)
    times: Floats = (_without_gaps(found).astype(np.float64) * FRAME_S).round(4)
    lengths = times[:, 1] - times[:, 0]
    return Energy(times[:, 0], times[:, 1], np.cumsum(lengths) - lengths)


def levels(pcm: Pcm) -> Floats:
    """Returns the level of each FRAME_S in dB of full scale, with treble raised: hum and rumble count for little."""
    whole = pcm[: len(pcm) // _FRAME * _FRAME].astype(np.float32)
    bright = np.diff(whole, prepend=whole[:1] if len(whole) else 0.0) + np.float32(0.1) * whole
    power = np.square(bright.reshape(-1, _FRAME)).mean(axis=1, dtype=np.float64)
    return 10 * np.log10(power / 32768**2 + 1e-12)


def _loud(pcm: Pcm) -> Iterator[Indices]:
    """Yields the first and last frames (exclusive) of what is above the threshold, piece by piece."""
    piece = int(PIECE_S / FRAME_S)
    half = piece // 2
    for first in range(0, len(pcm) // _FRAME, piece):
        before = max(0, first - half)
        around = levels(pcm[before * _FRAME : (first + piece + half) * _FRAME])
        loud = (around > _thresholds(around))[first - before : first - before + piece]
        edges = np.flatnonzero(np.diff(loud.astype(np.int8), prepend=0, append=0))
        yield first + edges.reshape(-1, 2)


def _thresholds(around: Floats) -> Floats:
    """Returns the threshold of each frame, one for each second."""
    low, high = np.percentile(around, [10, 95])
    seconds = np.resize(np.append(around, np.full(-len(around) % _SECOND, low)), (-(-len(around) // _SECOND), _SECOND))
    loudest = np.pad(np.percentile(seconds, 95, axis=1), NEAR_S, mode="edge")
    near = np.lib.stride_tricks.sliding_window_view(loudest, 2 * NEAR_S + 1).max(axis=1)
    reached = np.maximum(near, high - QUIETER_DB) - BELOW_LOUD_DB
    threshold = np.minimum(np.maximum(low + ABOVE_FLOOR_DB, reached), high - CLEAR_DB)
    return np.repeat(threshold, _SECOND)[: len(around)]


def _without_gaps(found: Indices) -> Indices:
    if not len(found):
        return found
    far = found[1:, 0] - found[:-1, 1] >= round(SHORTEST_GAP_S / FRAME_S)
    joined = np.stack([found[np.append(True, far), 0], found[np.append(far, True), 1]], axis=1)
    return joined[joined[:, 1] - joined[:, 0] >= round(SHORTEST_SOUND_S / FRAME_S)]
