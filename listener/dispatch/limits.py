"""Limits how long a job may wait and work, and how often and how fast a task may be sent: pure."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_dispatch.backoff import Backoff
from gpu_dispatch.endpoints import EndpointSpec
from listener.ledger.jobs import TaskStarts
from manifests.errors import TooManyStarts

LONGEST_QUEUE_S = 6 * 3600.0
"""The longest that a job waits in a queue, in seconds; then it is taken back, and sent again with new links."""

SHORTEST_QUEUE_S = 1800.0
"""The shortest wait before that, in seconds, where the endpoint has a `max_queue` and no other has room."""

SPARE_S = 600.0
"""Seconds after its deadline in which a worker still brings what it has; clocks differ, too."""

LEAST_BOUND = 200
"""Starts that any task may have; where a run may wait for long, as many more as its pace allows."""

AT_ONCE = 20
"""Starts that need not wait."""

PACE = Backoff(base_s=5.0, cap_s=300.0)
"""The pace of later starts. Its cap is as long as a failing endpoint is left alone: an outage is probed as often as
without it."""

_MARGIN = 1.5
_QUEUES = 4.0
_DOUBLED = 10


def longest_link_s(work_s: float) -> float:
    """Returns the seconds that the longest link works of a job whose work may take `work_s`."""
    return work_s + LONGEST_QUEUE_S + SPARE_S


def doubled(seconds: float, attempt: int) -> float:
    """Returns `seconds`, doubled with every attempt after the first: waits grow while all endpoints are busy."""
    return seconds * 2.0 ** min(attempt - 1, _DOUBLED)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long jobs may wait in a queue, and how long their links work, in seconds."""

    work_s: float
    """What a worker may take."""
    link_s: float
    """The longest that a link works."""

    def queue_s(self, spec: EndpointSpec | None, attempt: int) -> float:
        """Returns how long a job waits at the endpoint at most, whether or not another one has room.

        A multiple of the endpoint's `max_queue`, which doubles with every attempt. At least `work_s` of a link's life
        is left for the work.
        """
        most_s = max(0.0, self.link_s - self.work_s - SPARE_S)
        if spec is None or spec.max_queue_s is None:
            return min(LONGEST_QUEUE_S, most_s)
        return min(max(doubled(_QUEUES * spec.max_queue_s, attempt), SHORTEST_QUEUE_S), LONGEST_QUEUE_S, most_s)

    def link_lifetime_s(self, queue_s: float, work_s: float | None = None) -> float:
        """Returns how long the links work of a job that may wait for `queue_s` and work for `work_s`."""
        return queue_s + (self.work_s if work_s is None else work_s) + SPARE_S


def most_starts(waits_s: float) -> int:
    """Returns how often a task may be sent whose run waits `waits_s` seconds for an endpoint.

    Attempts that no worker began do not count, and an endpoint may be away for hours. This bound ends what makes them
    go on for ever, such as a defect or an attacker; later starts come no faster than such an outage needs.
    """
    return max(LEAST_BOUND, round(_MARGIN * waits_s / PACE.cap_s))


def next_start(starts: TaskStarts, waits_s: float) -> float:
    """Returns when the next start may be made, in epoch seconds. Raises TooManyStarts when there may be none."""
    if starts.count >= most_starts(waits_s):
        raise TooManyStarts(
            f"The task was sent {starts.count} times, and never came to an end.",
            hint="See `gpudrop costs --by endpoint` and the workers' logs, then redrive.",
        )
    if starts.count < AT_ONCE:
        return 0.0
    return starts.last + PACE.bound(starts.count - AT_ONCE + 1)
