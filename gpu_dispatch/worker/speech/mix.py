"""Mixes channels to one in which nothing is lost: no dead channel weakens it, no inverted one cancels it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu_dispatch.worker.speech.engine import SAMPLE_RATE

Frames = NDArray[np.int16]
"""Samples by frame and channel."""

AUDIBLE = 32768 // 2000
"""A sample value; a peak below it (-66 dBFS) is dither or the noise of a silent input, never speech."""

MARGIN = 512
"""Frames around a block that its filter sees; the response of a quarter turn has fallen below 0.2% there."""
BLOCK = 16384 - 2 * MARGIN
"""Frames that are judged together, 0.96 s: with their margins a power of two, which transforms fastest."""
RAMP = SAMPLE_RATE // 50
"""Frames over which one way to mix gives way to another."""

_EDGES = np.array([100, 200, 300, 400, 510, 630, 770, 920, 1080, 1270, 1480, 1720, 2000, 2320, 2700, 3150, 3700, 4400])
"""Where the bands of hearing (Bark scale) begin, in Hz."""
_CANCELLED = 0.25
"""A band with less of the power that its channels have apart (6 dB) is cancelled by mixing."""
_LOUD_BAND = 0.003
"""Share of all power, below which a band does not matter: 25 dB."""
_ALIKE = 0.995
"""Channels whose plain mix keeps this share of their power cannot cancel each other."""

_LEFT, _RIGHT, _CENTRE, _LOW = 0x1, 0x2, 0x4, 0x8
_WEIGHTS = {_LEFT: 0.7071, _RIGHT: 0.7071, _CENTRE: 1.0, _LOW: 0.0}
_AROUND = 0.5
"""The usual weights of a surround mix: dialogue is in the centre."""


def channel_weights(channels: int, speakers: int) -> NDArray[np.float32]:
    """Returns the share of each channel by its speaker, bits of WAVE's mask in order; all equal where it fits not."""
    bits = [1 << n for n in range(32) if speakers >> n & 1]
    found = [_WEIGHTS.get(bit, _AROUND) for bit in bits] if len(bits) == channels else [1.0] * channels
    return np.array(found if any(found) else [1.0] * channels, np.float32)


class Mixer:
    """Mixes a stream of frames. Its memory is that of two seconds, whatever the length.

    The plain mix is the mean of the channels that have been heard. Where a band would cancel, as with one inverted
    channel, every other channel is first turned by 90 degrees: what is turned so neither cancels nor drowns the other,
    whatever their phase, and hearing as well as a recogniser's spectrum do not notice.
    """

    def __init__(self, channels: int, speakers: int = 0) -> None:
        self._base = channel_weights(channels, speakers)
        self._heard = np.zeros(channels, bool)
        self._rest = np.zeros((MARGIN, channels), np.int16)
        self._waiting: list[Frames] = []
        self._frames = MARGIN
        self._way = (self._base / self._base.sum(), False)
        self._first = True
        self.peak = 0
        """The highest absolute sample so far."""

    def feed(self, frames: Frames) -> Frames:
        """Returns what is ready of the mix, one column."""
        if frames.size:
            self.peak = max(self.peak, int(frames.max()), -int(frames.min()))
        if self._base.size == 1:
            return frames[:, 0]
        self._waiting.append(frames)
        self._frames += len(frames)
        return self._mixed() if self._frames >= BLOCK + 2 * MARGIN else np.zeros(0, np.int16)

    def finish(self) -> Frames:
        """Returns the rest of the mix."""
        left = self._frames - MARGIN
        if self._base.size == 1 or left <= 0:
            return np.zeros(0, np.int16)
        self._waiting.append(np.zeros((-left % BLOCK + MARGIN, self._base.size), np.int16))
        return self._mixed()[:left]

    def _mixed(self) -> Frames:
        frames = np.concatenate([self._rest, *self._waiting])
        self._waiting = []
        done: list[Frames] = []
        at = 0
        while at + BLOCK + 2 * MARGIN <= len(frames):
            done.append(self._block(frames[at : at + BLOCK + 2 * MARGIN]))
            at += BLOCK
        self._rest = frames[at:].copy()
        self._frames = len(self._rest)
        return np.concatenate(done) if done else np.zeros(0, np.int16)

    def _block(self, window: Frames) -> Frames:
        core = window[MARGIN : MARGIN + BLOCK]
        self._heard |= (core.max(axis=0) >= AUDIBLE) | (core.min(axis=0) <= -AUDIBLE)
        weights = np.where(self._heard, self._base, 0) if self._heard.any() else self._base
        if not weights.any():
            weights = self._heard.astype(np.float32)
        way = (weights / weights.sum(), False)
        if self._heard.sum() > 1:
            way = (way[0], _cancels(window * way[0]))
        before, self._way = self._way, way
        mixed = _mix(window, *way)
        if not self._first and (before[1] != way[1] or not np.array_equal(before[0], way[0])):
            fade = np.linspace(0, 1, RAMP, dtype=np.float32)
            mixed[:RAMP] = mixed[:RAMP] * fade + _mix(window, *before)[:RAMP] * (1 - fade)
        self._first = False
        return np.clip(np.rint(mixed), -32768, 32767).astype(np.int16)


def _cancels(parts: NDArray[np.float32]) -> bool:
    """Returns whether the sum of `parts`, weighted channels, loses a band that at least one of them holds."""
    apart = float(np.square(parts).sum()) * parts.shape[1]
    if float(np.square(parts.sum(axis=1)).sum()) >= _ALIKE * apart:
        return False
    spectra = np.fft.rfft(np.ascontiguousarray(parts.T))
    places = (_EDGES * len(parts) / SAMPLE_RATE).astype(int)
    kept = np.add.reduceat(_power(spectra.sum(axis=0)), places)
    held = np.add.reduceat(_power(spectra).sum(axis=0), places)
    return bool(((kept < _CANCELLED * held) & (held > _LOUD_BAND * held.sum())).any())


def _power(spectra: NDArray[np.complexfloating[Any]]) -> NDArray[np.floating[Any]]:
    return np.square(spectra.real) + np.square(spectra.imag)


def _mix(window: Frames, weights: NDArray[np.float32], turned: bool) -> NDArray[np.float32]:
    """Returns the mix of the window's block; `turned`: every other channel by 90 degrees, at one channel's level."""
    if not turned:
        return window[MARGIN : MARGIN + BLOCK] @ weights
    heard = np.flatnonzero(weights)
    parts = window[:, heard] * weights[heard]
    spectrum = np.fft.rfft(parts[:, 0::2].sum(axis=1)) - 1j * np.fft.rfft(parts[:, 1::2].sum(axis=1))
    mixed = np.fft.irfft(spectrum, len(window))[MARGIN : MARGIN + BLOCK]
    return (mixed * np.sqrt(2)).astype(np.float32)
