"""Words are put where they sound, on speech whose onsets are known and with attention as vague as a model's."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_dispatch.transcript import Segment, Word
from gpu_dispatch.worker.speech.audio import Pcm
from gpu_dispatch.worker.speech.correction import corrected
from gpu_dispatch.worker.speech.energy import energy_of
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE
from gpu_dispatch.worker.speech.word_times import refined
from support.spoken_words import SpokenWords


def vague(spoken: SpokenWords, error_s: float, seed: int = 1) -> list[Segment]:
    """Times as attention gives them: without gaps, a pause belongs to the next word, and with errors."""
    draw = random.Random(seed)
    ends = [0.0, *(end + draw.gauss(0.04, error_s) for _, _, end in spoken.words)]
    ends = np.maximum.accumulate(np.clip(ends, 0.0, len(spoken.pcm) / SAMPLE_RATE)).tolist()
    words = [Word(f" {t}", *times, 0.9) for (t, _, _), times in zip(spoken.words, pairwise(ends), strict=True)]
    half = len(words) // 2
    parts = [tuple(words[:half]), tuple(words[half:])]
    return [Segment(i, p[0].start, p[-1].end, "".join(w.text for w in p), p) for i, p in enumerate(parts)]


def placed(spoken: SpokenWords, pcm: Pcm, error_s: float) -> list[Word]:
    segments = refined(vague(spoken, error_s), energy_of(pcm), spoken.duration)
    return [word for segment in segments for word in segment.words]


@pytest.mark.parametrize("decibels", [0, -30])
def test_words_start_and_end_with_their_sound(spoken_words: SpokenWords, decibels: int) -> None:
    given_segments = vague(spoken_words, 0.08)
    pcm = (spoken_words.pcm * 10 ** (decibels / 20)).astype(np.int16)
    segments = refined(given_segments, energy_of(pcm), len(pcm) / SAMPLE_RATE)
    words = [word for segment in segments for word in segment.words]
    median, most = spoken_words.errors([w.start for w in words])
    assert median <= 0.02 and most <= 0.2
    late = [w.end - end for w, (_, _, end) in zip(words, spoken_words.words, strict=True)]
    assert np.median(np.abs(late)) <= 0.05
    assert [(s.start, s.end) for s in segments] == [(s.words[0].start, s.words[-1].end) for s in segments]
    assert [s.text for s in segments] == [s.text for s in given_segments]


def test_noise_does_not_hide_the_words(spoken_words: SpokenWords) -> None:
    """White noise 20 dB below the voice."""
    voice = spoken_words.pcm[np.abs(spoken_words.pcm) > 300].astype(np.float64)
    noise = np.random.default_rng(1).standard_normal(len(spoken_words.pcm)) * voice.std() / 10
    pcm = np.clip(spoken_words.pcm + noise, -32768, 32767).astype(np.int16)
    words = placed(spoken_words, pcm, 0.08)
    median, most = spoken_words.errors([w.start for w in words])
    assert median <= 0.03 and most <= 0.2


def test_a_long_pause_is_no_part_of_a_word(spoken_words: SpokenWords) -> None:
    words = [
        w
        for s in refined(vague(spoken_words, 0.03), energy_of(spoken_words.pcm), spoken_words.duration)
        for w in s.words
    ]
    for word, (_, start, end) in zip(words, spoken_words.words, strict=True):
        assert start - 0.2 <= word.start <= start + 0.2
        assert word.end <= end + 0.2


def test_steady_sound_leaves_the_attention_as_it_is() -> None:
    """In a drone no onset is seen; the times move by no more than the attention's usual lateness."""
    pcm = (np.sin(np.arange(10 * SAMPLE_RATE) * 0.2) * 8000).astype(np.int16)
    given_words = tuple(Word(f" word{i}", 1.0 + i / 2, 1.5 + i / 2) for i in range(8))
    (segment,) = refined([Segment(0, 1.0, 5.0, "", given_words)], energy_of(pcm), len(pcm) / SAMPLE_RATE)
    assert all(abs(a.start - b.start) <= 0.1 for a, b in zip(segment.words, given_words, strict=True))


def test_segments_without_words_lose_the_silence_around_them() -> None:
    pcm = np.zeros(10 * SAMPLE_RATE, np.int16)
    pcm[2 * SAMPLE_RATE : 4 * SAMPLE_RATE] = np.random.default_rng(1).normal(0, 3000, 2 * SAMPLE_RATE)
    given_segments = [Segment(0, 0.5, 3.0, " one"), Segment(1, 3.0, 6.0, " two"), Segment(2, 7.0, 8.0, " three")]
    one, two, three = refined(given_segments, energy_of(pcm), 10.0)
    assert (one.start, one.end) == (pytest.approx(2.0, abs=0.02), 3.0)
    assert (two.start, two.end) == (3.0, pytest.approx(4.0, abs=0.02))
    assert (three.start, three.end) == (7.0, 8.0)


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Pcm, list[Segment]]:
    """Bursts of noise, and segments with words at any times."""
    seconds = draw(st.integers(1, 12))
    pcm = np.random.default_rng(draw(st.integers(0, 9))).normal(0, 2000, seconds * SAMPLE_RATE).astype(np.int16)
    for start, length in draw(st.lists(st.tuples(st.integers(0, 110), st.integers(1, 30)), max_size=8)):
        pcm[start * SAMPLE_RATE // 10 : (start + length) * SAMPLE_RATE // 10] = 0
    moments = st.floats(0.0, float(seconds)).map(lambda s: round(s, 2))
    words = st.lists(
        st.builds(Word, st.sampled_from([" one", " -", "!", " fourteen"]), moments, moments), min_size=1, max_size=6
    )
    texts = [draw(words) for _ in range(draw(st.integers(0, 4)))]
    return pcm, [Segment(i, 0.0, 0.5, "x" + "".join(w.text for w in t), tuple(t)) for i, t in enumerate(texts)]


@settings(max_examples=30, deadline=None)
@given(recordings())
def test_times_only_go_forward_and_every_word_lasts(recording: tuple[Pcm, list[Segment]]) -> None:
    pcm, segments = recording
    duration = len(pcm) / SAMPLE_RATE
    result = corrected(segments, pcm, None).segments
    words = [w for s in result for w in s.words]
    assert [w.text for w in words] == [w.text for s in segments for w in s.words]
    for items in (result, words):
        assert all(0.0 <= item.start <= item.end <= duration for item in items)
        assert all(earlier.end <= later.start for earlier, later in pairwise(items))
    assert all(w.end > w.start for w in words)
