"""How long links of a job work: as long as it may wait and work, and no longer than a link can."""

from __future__ import annotations

import pytest

from gpu_dispatch.endpoints import EndpointSpec
from listener.dispatch.lives import SPARE_S, life_seconds, link_seconds, queue_seconds

HOUR = 3600.0


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
    assert queue_seconds(spec(max_queue_s), attempt, HOUR, link_seconds(HOUR)) == queue_s
    assert life_seconds(queue_s, HOUR) == queue_s + HOUR + SPARE_S <= link_seconds(HOUR)


@pytest.mark.parametrize("limit_s", [2 * HOUR, HOUR, 10.0])
def test_the_time_for_the_work_is_kept_where_links_are_short(limit_s: float) -> None:
    for which in (None, spec(None), spec(900.0)):
        queue_s = queue_seconds(which, 1, HOUR, limit_s)
        assert queue_s >= 0.0 and (life_seconds(queue_s, HOUR) <= limit_s or queue_s == 0.0)
