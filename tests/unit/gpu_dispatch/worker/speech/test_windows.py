"""Windows for batches: no longer than the encoder takes, cut in pauses, nothing lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_dispatch.worker.speech.audio import Pcm
from gpu_dispatch.worker.speech.chunks import Span
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE
from gpu_dispatch.worker.speech.windows import plan_windows


def speech_with_pauses(seconds: float, pauses: list[tuple[float, float]]) -> Pcm:
    sound = np.random.default_rng(1).normal(0, 3000, int(seconds * SAMPLE_RATE))
    for start, end in pauses:
        sound[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)] /= 100
    return sound.astype(np.int16)


def seconds(*spans: Span) -> float:
    return sum(s.end - s.start for s in spans) / SAMPLE_RATE


def test_a_long_span_is_cut_in_its_longest_pause_near_the_limit() -> None:
    pcm = speech_with_pauses(50.0, [(10.0, 12.0), (24.0, 24.5), (28.0, 28.15)])
    first, second = plan_windows(pcm, [Span(0, len(pcm))])
    assert first.spans[0].end == second.spans[0].start
    assert first.spans[0].end / SAMPLE_RATE == pytest.approx(24.25, abs=0.1)


def test_short_spans_share_a_window_until_it_is_full() -> None:
    pcm = speech_with_pauses(60.0, [])
    spans = [Span(i * 12 * SAMPLE_RATE, (i * 12 + 10) * SAMPLE_RATE) for i in range(5)]
    windows = plan_windows(pcm, spans)
    assert [round(seconds(*w.spans)) for w in windows] == [30, 20]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 70.0), st.floats(0.0, 3.0)), min_size=1, max_size=6))
def test_windows_hold_all_spans_in_order(lengths: list[tuple[float, float]]) -> None:
    spans: list[Span] = []
    at = 0
    for length, gap in lengths:
        spans.append(Span(at, at + int(length * SAMPLE_RATE)))
        at = spans[-1].end + int(gap * SAMPLE_RATE)
    windows = plan_windows(np.zeros(at, np.int16), spans)
    assert all(0 < seconds(*w.spans) <= 30.0 for w in windows)
    cut = [piece for w in windows for piece in w.spans]
    assert all(piece.start < piece.end for piece in cut)
    joined: list[Span] = []
    for piece in cut:
        whole = joined and joined[-1].end == piece.start and not any(piece.start == s.start for s in spans)
        joined[-1:] = [Span(joined[-1].start, piece.end)] if whole else [*joined[-1:], piece]
    assert joined == spans
