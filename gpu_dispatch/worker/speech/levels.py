"""Brings sound to the level at which a detector or a model hears best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpu_dispatch.worker.speech.engine import SAMPLE_RATE, Samples

_FRAME = SAMPLE_RATE // 10
"""Samples whose level is measured."""


@dataclass(frozen=True, slots=True)
class LevelRule:
    """Which levels are changed, and to what; in dB of full scale, as root mean square over a tenth of a second."""

    below: float
    """What is louder than this within `around_s` stays as it is."""
    to: float
    most: float = 60.0
    """The greatest gain, in dB."""
    around_s: float = 1.5
    """Seconds on each side over which the loudest tenth of a second counts, so that words of a sentence keep their
    proportion."""


DETECTION = LevelRule(below=0.0, to=-44.0)
"""For Silero. Of 30 s of speech in a telephone's band it finds 8 s at -16 dB, 18 s at -36 dB, 23 s at -44 dB; of speech
in full band 25 s at each; in noise, hum, music and applause nothing at -26 to -52 dB."""

RECOGNITION = LevelRule(below=-45.0, to=-22.0)
"""Whisper hears down to here by itself; the text of ordinary recordings stays the engine's own."""

AUDIBLE = 10 ** (-78 / 20)
"""Root mean square; what is below it is dither or the noise of a silent input."""


def levelled(samples: Samples, rule: LevelRule) -> Samples:
    """Returns `samples` at the level of `rule`; the same array where nothing is to be changed."""
    gains = _gains(samples, rule)
    if not len(gains) or bool((gains == 1.0).all()):
        return samples
    # From the middle of each tenth of a second to that of the next, the gain changes evenly.
    edges = np.concatenate([gains[:1], (gains[1:] + gains[:-1]) / 2, gains[-1:]])
    ramp = np.arange(_FRAME, dtype=np.float32) / _FRAME
    whole = len(gains) * _FRAME
    result = samples.copy()
    frames = result[:whole].reshape(-1, _FRAME)
    frames *= edges[:-1, None] + (edges[1:] - edges[:-1])[:, None] * ramp
    result[whole:] *= gains[-1]
    return np.clip(result, -1.0, 1.0, out=result)


def _gains(samples: Samples, rule: LevelRule) -> Samples:
    """Returns the gain of each tenth of a second."""
    whole = len(samples) // _FRAME
    if not whole:
        return np.ones(0, np.float32)
    frames = samples[: whole * _FRAME].reshape(whole, _FRAME)
    level = np.sqrt(np.square(frames).mean(axis=1))
    around = _most_around(level, round(rule.around_s * 10))
    decibels = 20 * np.log10(np.maximum(around, 1e-9))
    change = np.minimum(rule.to - decibels, rule.most)
    wanted = np.where((decibels < rule.below) & (around > AUDIBLE), change, 0.0)
    return (10 ** (wanted / 20)).astype(np.float32)


def _most_around(level: Samples, reach: int) -> Samples:
    """Returns the greatest of the values within `reach` places on either side of each."""
    padded = np.pad(level, reach, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
