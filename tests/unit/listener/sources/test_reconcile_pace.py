from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from listener.sources.reconcile.source import JITTER, PAUSE_FACTOR, pause_s

seconds = st.floats(0, 10_000)


@given(seconds, st.floats(0.1, 3600), st.floats(0, 100), st.booleans(), st.integers(0, 1000))
def test_pauses_are_long_beside_listings(
    listing_s: float, interval_s: float, settle_s: float, unsettled: bool, seed: int
) -> None:
    pause = pause_s(listing_s, interval_s, settle_s=settle_s, unsettled=unsettled, rng=random.Random(seed))
    assert pause >= listing_s * PAUSE_FACTOR
    if not unsettled:
        assert pause >= interval_s * (1 - JITTER)
    assert pause <= max(interval_s * (1 + JITTER), listing_s * PAUSE_FACTOR)


def test_unsettled_objects_are_looked_at_again_sooner() -> None:
    rng = random.Random(1)
    assert pause_s(0.01, 60.0, settle_s=1.0, unsettled=True, rng=rng) < 6.0
    assert pause_s(0.01, 60.0, settle_s=1.0, unsettled=False, rng=rng) > 50.0


def test_pauses_differ() -> None:
    rng = random.Random(1)
    assert len({pause_s(0.01, 60.0, settle_s=0.0, unsettled=False, rng=rng) for _ in range(10)}) == 10
