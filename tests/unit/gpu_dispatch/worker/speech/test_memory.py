"""How many windows are decoded together."""

from __future__ import annotations

import pytest

from gpu_dispatch.worker.speech.memory import MOST_WINDOWS, free_memory, window_bytes, windows_at_once

TINY, LARGE = 75_000_000, 3_100_000_000
GB = 2**30


@pytest.mark.parametrize("weights", [TINY, LARGE])
def test_the_windows_fit_and_are_never_none(weights: int) -> None:
    for free in (0, GB // 2, 2 * GB, 8 * GB, 200 * GB):
        count = windows_at_once(weights, 5, "cpu", free)
        assert 1 <= count <= MOST_WINDOWS["cpu"]
        assert count == 1 or count * window_bytes(weights, 5, "cpu") <= free
    assert windows_at_once(weights, 5, "cpu", 200 * GB) == MOST_WINDOWS["cpu"]


def test_larger_models_and_more_hypotheses_take_more() -> None:
    assert window_bytes(TINY, 5, "cpu") < window_bytes(LARGE, 5, "cpu")
    assert window_bytes(LARGE, 1, "cuda") < window_bytes(LARGE, 5, "cuda")
    assert windows_at_once(LARGE, 5, "cuda", 8 * GB) < windows_at_once(LARGE, 5, "cuda", 40 * GB)


def test_this_machine_tells_its_free_memory() -> None:
    assert free_memory("cpu") > 10_000_000
