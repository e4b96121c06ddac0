"""Endpoints as the dispatcher sees them: what each can do, in which order they are asked, and where a task may go now."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_dispatch.task import Capability


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """One endpoint of the configuration. Times are seconds.

    `order`: lower ones are asked first; those of one order share the tasks by `weight`. `concurrency` is how many jobs
    may be there at once, of all listeners (None: no limit, 0: stopped); `rate_per_s` how many are sent a second by this
    one. A job that has been queued for `max_queue_s` is taken back and given to another endpoint; after
    `hedge_after_s` in the queue a second one is sent beside it. `usd_per_s` is the price of a second of work.
    """

    name: str
    capabilities: frozenset[Capability]
    order: int = 0
    weight: float = 1.0
    concurrency: int | None = None
    rate_per_s: float | None = None
    max_queue_s: float | None = None
    hedge_after_s: float | None = None
    usd_per_s: float = 0.0
