"""The cheapest path through costs, beside a plain computation of it, and the starts of tokens."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpu_dispatch.worker.speech.attention import FRAME_S, cheapest_path, token_starts


def plain_total(costs: np.ndarray) -> float:
    total = np.full((costs.shape[0] + 1, costs.shape[1] + 1), np.inf)
    total[0, 0] = 0.0
    for i, row in enumerate(costs, 1):
        for j, cost in enumerate(row, 1):
            total[i, j] = cost + min(total[i - 1, j - 1], total[i - 1, j], total[i, j - 1])
    return float(total[-1, -1])


@given(
    st.tuples(st.integers(1, 7), st.integers(1, 9)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.integers(-8, 8).map(float))
    )
)
@settings(max_examples=60, deadline=None)
def test_no_path_is_cheaper(costs: np.ndarray) -> None:
    rows, columns = cheapest_path(costs)
    assert (rows[0], columns[0]) == (0, 0)
    assert (rows[-1], columns[-1]) == (costs.shape[0] - 1, costs.shape[1] - 1)
    steps = set(zip(np.diff(rows).tolist(), np.diff(columns).tolist(), strict=True))
    assert steps <= {(1, 1), (1, 0), (0, 1)}
    assert costs[rows, columns].sum() == plain_total(costs)


def test_a_token_starts_where_the_attention_goes_to_it() -> None:
    frames, begins = 100, [0, 20, 55, 80]
    heads = np.full((2, 4, frames), 0.001)
    for token, (start, end) in enumerate(zip(begins, [*begins[1:], frames], strict=True)):
        heads[:, token, start:end] = 1.0
    heads /= heads.sum(axis=-1, keepdims=True)
    assert np.allclose(token_starts(heads, 0, 4), np.array(begins) * FRAME_S, atol=FRAME_S)


def test_sound_of_a_few_frames_has_starts_too() -> None:
    heads = np.full((1, 3, 2), 0.5)
    assert token_starts(heads, 0, 3).shape == (3,)
