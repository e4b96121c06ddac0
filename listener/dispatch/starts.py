"""How often a task may be sent, whatever comes of it, and how fast: pure.

Attempts that no worker began do not count, and an endpoint may be away for hours. Whatever makes them go on without
end, a defect or a stranger, comes to this bound; until then the later ones come no faster than such an outage needs.
"""

from __future__ import annotations

from gpu_dispatch.waiting import Backoff
from listener.ledger.jobs import Starts
from manifests.errors import TooManyStarts

LEAST_BOUND = 200
"""Starts of a task, at least; where a run may wait for long, as many more as its pace allows."""

AT_ONCE = 20
"""Starts that nobody waits for."""

PACE = Backoff(base_s=5.0, cap_s=300.0)
"""As long as an endpoint that takes nothing is left alone: an outage is asked about as often as before."""

_MARGIN = 1.5


def most_starts(waits_s: float) -> int:
    """Of a task whose run waits `waits_s` seconds for an endpoint."""
    return max(LEAST_BOUND, round(_MARGIN * waits_s / PACE.cap_s))


def next_start(starts: Starts, waits_s: float) -> float:
    """When the next may be made, in epoch seconds. Raises TooManyStarts when there may be none."""
    if starts.count >= most_starts(waits_s):
        raise TooManyStarts(
            f"The task was sent {starts.count} times, and never came to an end.",
            hint="See `gpudrop costs --by endpoint` and the workers' logs, then redrive.",
        )
    if starts.count < AT_ONCE:
        return 0.0
    return starts.last + PACE.bound(starts.count - AT_ONCE + 1)
