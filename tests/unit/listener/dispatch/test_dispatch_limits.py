"""How long links of a job work, and how often a task is sent, whatever comes of it."""

from __future__ import annotations

import pytest

from gpu_dispatch.endpoints import EndpointSpec
from listener.dispatch.limits import (
    AT_ONCE,
    LEAST_BOUND,
    PACE,
    SPARE_S,
    Deadlines,
    longest_link_s,
    most_starts,
    next_start,
)
from listener.ledger.jobs import TaskStarts
from manifests.errors import TooManyStarts

HOUR = 3600.0
QUARTER_DAY = 21_600.0


def spec(max_queue_s: float | None) -> EndpointSpec:
    return EndpointSpec("e", frozenset({"whisper"}), max_queue_s=max_queue_s)


@pytest.mark.parametrize(
    ("max_queue_s", "attempt", "queue_s"),
    [
        (None, 1, 6 * HOUR),
        (60.0, 1, HOUR / 2),
        (900.0, 1, HOUR),
        (900.0, 2, 2 * HOUR),
        (900.0, 40, 6 * HOUR),
        (10 * HOUR, 1, 6 * HOUR),
    ],
)
def test_a_job_waits_for_a_multiple_of_its_endpoints_patience(
    max_queue_s: float | None, attempt: int, queue_s: float
) -> None:
    deadlines = Deadlines(HOUR, longest_link_s(HOUR))
    assert deadlines.queue_s(spec(max_queue_s), attempt) == queue_s
    assert deadlines.link_lifetime_s(queue_s) == queue_s + HOUR + SPARE_S <= longest_link_s(HOUR)
    assert deadlines.link_lifetime_s(queue_s, 60.0) == queue_s + 60.0 + SPARE_S


@pytest.mark.parametrize("link_s", [2 * HOUR, HOUR, 10.0])
def test_the_time_for_the_work_is_kept_where_links_are_short(link_s: float) -> None:
    deadlines = Deadlines(HOUR, link_s)
    for which in (None, spec(None), spec(900.0)):
        queue_s = deadlines.queue_s(which, 1)
        assert queue_s >= 0.0 and (deadlines.link_lifetime_s(queue_s) <= link_s or queue_s == 0.0)


@pytest.mark.parametrize("waits_s", [0.0, QUARTER_DAY, 7 * 86_400.0])
def test_an_outage_as_long_as_a_run_may_wait_comes_to_no_bound(waits_s: float) -> None:
    starts, now = TaskStarts(0, 0.0), 0.0
    while now <= waits_s:
        now = max(now, next_start(starts, waits_s))
        starts = TaskStarts(starts.count + 1, now)
    assert starts.count < most_starts(waits_s)


def test_tries_without_end_are_paced_and_then_ended() -> None:
    starts, now = TaskStarts(0, 0.0), 0.0
    with pytest.raises(TooManyStarts) as ended:
        while True:
            now = max(now, next_start(starts, QUARTER_DAY))
            starts = TaskStarts(starts.count + 1, now)
    assert starts.count == LEAST_BOUND and not ended.value.retryable and ended.value.info.hint
    assert now > (LEAST_BOUND - AT_ONCE) * PACE.cap_s * 0.9
