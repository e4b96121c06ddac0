"""How long a job may wait and work, and how often and how fast a task may be sent: pure."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_dispatch.backoff import Backoff
from gpu_dispatch.endpoints import EndpointSpec
from listener.ledger.jobs import TaskStarts
from manifests.errors import TooManyStarts

LONGEST_QUEUE_S = 6 * 3600.0
"""A job waits no longer in a queue; then it is taken back, and sent again with new links."""

SHORTEST_QUEUE_S = 1800.0
"""Nor is it taken back before, where its endpoint has a `max_queue` and nobody else has room."""

SPARE_S = 600.0
"""After its deadline a worker still brings what it has, and clocks differ."""

LEAST_BOUND = 200
"""Starts of a task, at least; where a run may wait for long, as many more as its pace allows."""

AT_ONCE = 20
"""Starts that nobody waits for."""

PACE = Backoff(base_s=5.0, cap_s=300.0)
"""As long as an endpoint that takes nothing is left alone: an outage is asked about as often as before."""

_MARGIN = 1.5
_QUEUES = 4.0
_DOUBLED = 10


def longest_link_s(work_s: float) -> float:
    """The longest that a link of any job works whose work may take `work_s`."""
    return work_s + LONGEST_QUEUE_S + SPARE_S


def doubled(seconds: float, attempt: int) -> float:
    """`seconds`, doubled with every attempt after the first: an endpoint's patience grows while all are busy."""
    return seconds * 2.0 ** min(attempt - 1, _DOUBLED)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long jobs may wait in a queue, and how long their links work. All times are seconds."""

    work_s: float
    """What a worker may take."""
    link_s: float
    """The longest that a link works."""

    def queue_s(self, spec: EndpointSpec | None, attempt: int) -> float:
        """How long a job waits at the endpoint at most, whoever else has room.

        A multiple of the endpoint's `max_queue`, which doubles with every attempt. Of a link's life at least `work_s`
        is left for the work.
        """
        most_s = max(0.0, self.link_s - self.work_s - SPARE_S)
        if spec is None or spec.max_queue_s is None:
            return min(LONGEST_QUEUE_S, most_s)
        return min(max(doubled(_QUEUES * spec.max_queue_s, attempt), SHORTEST_QUEUE_S), LONGEST_QUEUE_S, most_s)

    def life_s(self, queue_s: float, work_s: float | None = None) -> float:
        """How long the links of a job work that may wait for `queue_s` and work for `work_s`."""
        return queue_s + (self.work_s if work_s is None else work_s) + SPARE_S


def most_starts(waits_s: float) -> int:
    """How often a task may be sent whose run waits `waits_s` seconds for an endpoint.

    Attempts that no worker began do not count, and an endpoint may be away for hours. Whatever makes them go on without
    end, a defect or a stranger, comes to this bound; the later ones come no faster than such an outage needs.
    """
    return max(LEAST_BOUND, round(_MARGIN * waits_s / PACE.cap_s))


def next_start(starts: TaskStarts, waits_s: float) -> float:
    """When the next start may be made, in epoch seconds. Raises TooManyStarts when there may be none."""
    if starts.count >= most_starts(waits_s):
        raise TooManyStarts(
            f"The task was sent {starts.count} times, and never came to an end.",
            hint="See `gpudrop costs --by endpoint` and the workers' logs, then redrive.",
        )
    if starts.count < AT_ONCE:
        return 0.0
    return starts.last + PACE.bound(starts.count - AT_ONCE + 1)
