"""How often a task is sent, whatever comes of it."""

from __future__ import annotations

import pytest

from listener.dispatch.starts import AT_ONCE, LEAST_BOUND, PACE, most_starts, next_start
from listener.ledger.jobs import Starts
from manifests.errors import TooManyStarts

QUARTER_DAY = 21_600.0


@pytest.mark.parametrize("waits_s", [0.0, QUARTER_DAY, 7 * 86_400.0])
def test_an_outage_as_long_as_a_run_may_wait_comes_to_no_bound(waits_s: float) -> None:
    starts, now = Starts(0, 0.0), 0.0
    while now <= waits_s:
        now = max(now, next_start(starts, waits_s))
        starts = Starts(starts.count + 1, now)
    assert starts.count < most_starts(waits_s)


def test_tries_without_end_are_paced_and_then_ended() -> None:
    starts, now = Starts(0, 0.0), 0.0
    with pytest.raises(TooManyStarts) as ended:
        while True:
            now = max(now, next_start(starts, QUARTER_DAY))
            starts = Starts(starts.count + 1, now)
    assert starts.count == LEAST_BOUND and not ended.value.retryable and ended.value.info.hint
    assert now > (LEAST_BOUND - AT_ONCE) * PACE.cap_s * 0.9
