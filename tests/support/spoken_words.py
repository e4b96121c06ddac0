"""Words that are said one by one, at known times."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gpu_dispatch.worker.speech.audio import Pcm
from support.requirements import require
from support.scripts import load_script

scripts_speech = load_script("speech")
scripts_spoken_words = load_script("spoken_words")

SENTENCE = "Yesterday morning seven brown horses walked slowly across the frozen river and nobody noticed them"
PAUSES = (0.3, 0.8, 1.6, 5.0)


class SpokenWords:
    """`pcm` has each of `words`, a text with its start and end in seconds."""

    def __init__(self, text: str, pauses: Sequence[float], speed: float) -> None:
        said = scripts_spoken_words.spoken_words(text.split(), pauses, speed=speed)
        self._said = said
        self.pcm: Pcm = said.samples
        self.words: list[tuple[str, float, float]] = [(w.text, w.start, w.end) for w in said.words]

    def write(self, file: Path) -> Path:
        file.parent.mkdir(exist_ok=True)
        return self._said.write(file)

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.pcm) / scripts_spoken_words.RATE

    def errors(self, starts: Sequence[float]) -> tuple[float, float]:
        """Median and 95th percentile of how far `starts` are from the words', in seconds."""
        off = np.abs(np.array(starts) - [start for _, start, _ in self.words])
        return float(np.median(off)), float(np.percentile(off, 95))


@pytest.fixture(scope="session", params=[0.8, 1.3])
def spoken_words(request: pytest.FixtureRequest) -> SpokenWords:
    """A sentence, slow and fast, with a pause of PAUSES before every third word and 0.12 s before the others."""
    require(scripts_speech.is_possible(), "No voice is installed.", "make env")
    draw = random.Random(1)
    pauses = [draw.choice(PAUSES) if i % 3 == 2 else 0.12 for i in range(len(SENTENCE.split()))]
    return SpokenWords(SENTENCE, [0.5, *pauses[1:]], request.param)
