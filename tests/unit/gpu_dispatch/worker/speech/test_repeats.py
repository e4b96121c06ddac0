"""A line that is said several times is told from one that a model repeats."""

from __future__ import annotations

import random

import numpy as np
import pytest

from gpu_dispatch.transcript import Segment, Word
from gpu_dispatch.worker.speech.audio import Pcm
from gpu_dispatch.worker.speech.correction import corrected
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE
from support.requirements import require
from support.spoken_words import scripts_speech, scripts_spoken_words

LINE = "please bring your passport and a warm jacket"
OTHER = "nobody noticed eleven brown horses under the frozen bridge until August ended and people quietly left again"
GAP_S = 0.02


def voice(text: str, speed: float = 1.0) -> Pcm:
    require(scripts_speech.is_possible(), "No voice is installed.", "make env")
    words = text.split()
    return scripts_spoken_words.spoken_words(words, [GAP_S] * len(words), speed=speed).samples


def looped(times: int, seconds: float) -> list[Segment]:
    """LINE, `times` times within `seconds`, as a model that loops places it: evenly, and somewhat by chance."""
    draw = random.Random(times)
    each = seconds / times / len(LINE.split())
    words = [
        Word(f" {word}", i * each + draw.uniform(0, each / 4), (i + 1) * each)
        for i, word in enumerate(LINE.split() * times)
    ]
    size = len(LINE.split())
    groups = [tuple(words[i : i + size]) for i in range(0, len(words), size)]
    return [Segment(0, g[0].start, g[-1].end, "".join(w.text for w in g), g) for g in groups]


def in_one(segments: list[Segment]) -> list[Segment]:
    words = tuple(w for s in segments for w in s.words)
    return [Segment(0, words[0].start, words[-1].end, "".join(w.text for w in words), words)]


@pytest.mark.parametrize("times", [4, 6])
@pytest.mark.parametrize("split", [True, False])
def test_a_line_that_is_said_again_stays(times: int, split: bool) -> None:
    pcm = np.concatenate([voice(LINE, 1.0 + 0.1 * (i % 3)) for i in range(times)])
    segments = looped(times, len(pcm) / SAMPLE_RATE)
    cleaned = corrected(segments if split else in_one(segments), pcm, 2.4)
    assert " ".join(s.text.strip() for s in cleaned.segments) == " ".join([LINE] * times)
    assert cleaned.loops == ()


@pytest.mark.parametrize("split", [True, False])
def test_a_loop_over_other_words_is_cut_and_told(split: bool) -> None:
    pcm = voice(OTHER, 0.8)
    segments = looped(6, len(pcm) / SAMPLE_RATE)
    cleaned = corrected(segments if split else in_one(segments), pcm, 2.4)
    assert " ".join(s.text.strip() for s in cleaned.segments).count("passport") == 1
    (loop,) = cleaned.loops
    assert (loop.text, loop.times) == (LINE, 5)


def test_a_loop_faster_than_anyone_speaks_is_cut() -> None:
    pcm = np.concatenate([voice(LINE)] * 2)
    cleaned = corrected(looped(20, len(pcm) / SAMPLE_RATE), pcm, 2.4)
    assert " ".join(s.text for s in cleaned.segments).count("passport") <= 2
    assert sum(loop.times for loop in cleaned.loops) >= 18
