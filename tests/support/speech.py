"""Speech that tests make themselves, with its words: a voice from the package index, spoken once and kept."""

from __future__ import annotations

import re
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.requirements import require
from support.scripts import load_script

scripts_speech = load_script("speech")


@dataclass(frozen=True)
class Speech:
    """`file` is a WAV file in which `text` is said; each sentence is followed by a second of silence."""

    file: Path
    text: str

    @property
    def duration(self) -> float:
        """Seconds."""
        with wave.open(str(self.file)) as sound:
            return sound.getnframes() / sound.getframerate()

    def samples(self) -> NDArray[np.float32]:
        """The sound as an engine takes it: at 16 kHz, from -1 to 1."""
        with wave.open(str(self.file)) as sound:
            given = np.frombuffer(sound.readframes(sound.getnframes()), np.int16) / 32768
            rate = sound.getframerate()
        at = np.arange(int(len(given) * 16_000 / rate)) * rate / 16_000
        return np.interp(at, np.arange(len(given)), given).astype(np.float32)

    def word_error_rate(self, heard: str) -> float:
        """Levenshtein's distance in words to what is said, over the number of its words."""
        said, got = _words(self.text), _words(heard)
        row = list(range(len(got) + 1))
        for i, expected in enumerate(said, 1):
            before, row[0] = row[0], i
            for j, word in enumerate(got, 1):
                before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != expected))
        return row[-1] / len(said)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def speak(text: str) -> Speech:
    """English `text` by a voice that Whisper understands. Takes two seconds the first time, on any machine."""
    require(scripts_speech.is_possible(), "No voice is installed.", "make env")
    return Speech(scripts_speech.spoken(text), text)


@pytest.fixture(scope="session")
def speech() -> Speech:
    """About ten seconds: one sentence, a pause, two sentences."""
    return speak(scripts_speech.TEXT)
