"""Tells whether two stretches of sound say the same."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gpu_dispatch.worker.speech.audio import Pcm, to_samples
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE

Bands = NDArray[np.float32]
"""The levels of BANDS bands, HOP_S apart."""

HOP_S = 0.01
BANDS = 16
STEPS = 32
"""Parts into which a phrase is divided, whatever its pace."""

SHIFTS = 0.06 * np.arange(-5, 6)
"""Where a phrase is looked for beside its place, in its lengths: the times of repeated phrases are the vaguest."""

FURTHEST_S = 0.5
"""And no further than this."""

PACES = (0.8, 0.9, 1.0, 1.1, 1.25)
"""How long it may take there, in lengths of the known one."""

_FFT = 512
_HOP = int(HOP_S * SAMPLE_RATE)


def bands_of(pcm: Pcm, start: float, end: float) -> Bands:
    """Returns the spectrum from `start` to `end`, in seconds, in coarse bands; silence before and after `pcm`."""
    first, last = int(start * SAMPLE_RATE), int(end * SAMPLE_RATE) + _FFT
    sound = to_samples(pcm[max(first, 0) : max(last, 0)])
    before = min(max(-first, 0), last - first)
    sound = np.pad(sound, (before, max(0, last - first - before - len(sound))))
    windows = np.lib.stride_tricks.sliding_window_view(sound, _FFT)[::_HOP]
    power = np.square(np.abs(np.fft.rfft(windows * np.hanning(_FFT), axis=1)))
    edges = np.unique(np.geomspace(3, _FFT // 2, BANDS + 1).round().astype(int))
    return np.log10(np.add.reduceat(power, edges[:-1], axis=1) + 1e-6).astype(np.float32)


def pattern_of(bands: Bands) -> Bands:
    """Returns how `bands` change, in STEPS, each band with a mean of 0 and all together with a length of 1."""
    places = np.linspace(0, len(bands), STEPS + 1).astype(int)
    steps = np.stack([bands[a : max(b, a + 1)].mean(axis=0) for a, b in pairwise(places)])
    steps -= steps.mean(axis=0)
    return steps / max(float(np.linalg.norm(steps)), 1e-9)


def comes_again(pcm: Pcm, start: float, end: float, again: float) -> float:
    """Returns the greatest likeness, from -1 to 1, of the sound from `start` to `end` and what begins near `again`."""
    known = pattern_of(bands_of(pcm, start, end))
    length = max(end - start, 2 * HOP_S)
    shifts = np.clip(SHIFTS * length, -FURTHEST_S, FURTHEST_S)
    first = again + float(shifts[0])
    around = bands_of(pcm, first, again + float(shifts[-1]) + PACES[-1] * length)
    best = -1.0
    for shift in shifts:
        at = round((again + float(shift) - first) / HOP_S)
        for pace in PACES:
            other = pattern_of(around[at : at + max(2, round(pace * length / HOP_S))])
            best = max(best, float((known * other).sum()))
    return best
