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
_WINDOW = 2 * _FRAME

BANDS_HZ = ((150, 1000), (1000, 3000), (3000, 8001))
"""Vowels, vowels and bursts, hisses: noise that covers one of them leaves the others, and hum lies below all."""

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

CLEAR_DB = 3.0
"""In a band where the loudest hundredth does not exceed the threshold by this, noise or a drone covers the speech."""

SILENT_DB = -80.0
"""What is below it in all bands is no sound."""

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
    """Returns the level of each FRAME_S in each of BANDS_HZ, in dB of full scale."""
    whole = len(pcm) // _FRAME
    sound = np.pad(pcm[: whole * _FRAME], (_FRAME // 2, _WINDOW)).astype(np.float32) / 32768
    windows = np.lib.stride_tricks.sliding_window_view(sound, _WINDOW)[::_FRAME][:whole]
    power = np.square(np.abs(np.fft.rfft(windows * np.hanning(_WINDOW).astype(np.float32), axis=1)))
    hertz = np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE)
    sums = [power[:, (hertz >= low) & (hertz < high)].sum(axis=1) for low, high in BANDS_HZ]
    return 10 * np.log10(np.stack(sums, axis=1).astype(np.float64) / _WINDOW**2 + 1e-12)


def _loud(pcm: Pcm) -> Iterator[Indices]:
    """Yields the first and last frames (exclusive) of what is above the threshold, piece by piece."""
    piece = int(PIECE_S / FRAME_S)
    half = piece // 2
    for first in range(0, len(pcm) // _FRAME, piece):
        before = max(0, first - half)
        around = levels(pcm[before * _FRAME : (first + piece + half) * _FRAME])
        loud = _above(around)[first - before : first - before + piece]
        edges = np.flatnonzero(np.diff(loud.astype(np.int8), prepend=0, append=0))
        yield first + edges.reshape(-1, 2)


def _above(bands: Floats) -> NDArray[np.bool_]:
    """Returns which frames stand out in any band; where no band has anything that does, all of them are one sound."""
    found = [band > limits for band in bands.T if (limits := _thresholds(band)) is not None]
    if found:
        return np.logical_or.reduce(found)
    return np.full(len(bands), bool((bands > SILENT_DB).any()))


def _thresholds(band: Floats) -> Floats | None:
    """Returns the threshold of each frame of a band, one for each second; None where nothing stands out."""
    low, high, top = np.percentile(band, [10, 95, 99])
    if top < low + ABOVE_FLOOR_DB + CLEAR_DB:
        return None
    seconds = np.append(band, np.full(-len(band) % _SECOND, low)).reshape(-1, _SECOND)
    loudest = np.pad(np.percentile(seconds, 95, axis=1), NEAR_S, mode="edge")
    near = np.lib.stride_tricks.sliding_window_view(loudest, 2 * NEAR_S + 1).max(axis=1)
    reached = np.maximum(near, high - QUIETER_DB) - BELOW_LOUD_DB
    return np.repeat(np.maximum(low + ABOVE_FLOOR_DB, reached), _SECOND)[: len(band)]


def _without_gaps(found: Indices) -> Indices:
    if not len(found):
        return found
    far = found[1:, 0] - found[:-1, 1] >= round(SHORTEST_GAP_S / FRAME_S)
    joined = np.stack([found[np.append(True, far), 0], found[np.append(far, True), 1]], axis=1)
    return joined[joined[:, 1] - joined[:, 0] >= round(SHORTEST_SOUND_S / FRAME_S)]
