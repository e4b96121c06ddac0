"""How long a job may wait and work, and so how long its links work: pure."""

from __future__ import annotations

from gpu_dispatch.endpoints import EndpointSpec

LONGEST_QUEUE_S = 6 * 3600.0
"""A job waits no longer in a queue; then it is taken back, and sent again with new links."""

SHORTEST_QUEUE_S = 1800.0
"""Nor is it taken back before, where its endpoint has a `max_queue` and nobody else has room."""

SPARE_S = 600.0
"""After its deadline a worker still brings what it has, and clocks differ."""

_PATIENCE = 4.0
_DOUBLED = 10


def link_seconds(timeout_s: float) -> float:
    """The longest that a link of any job works."""
    return timeout_s + LONGEST_QUEUE_S + SPARE_S


def queue_seconds(spec: EndpointSpec | None, attempt: int, timeout_s: float, limit_s: float) -> float:
    """How long a job waits at the endpoint at most, whoever else has room.

    A multiple of the endpoint's `max_queue`, which doubles with every attempt as that does. Of `limit_s`, the longest
    life of a link, at least `timeout_s` is left for the work.
    """
    most_s = max(0.0, limit_s - timeout_s - SPARE_S)
    if spec is None or spec.max_queue_s is None:
        return min(LONGEST_QUEUE_S, most_s)
    patience_s = _PATIENCE * spec.max_queue_s * 2.0 ** min(attempt - 1, _DOUBLED)
    return min(max(patience_s, SHORTEST_QUEUE_S), LONGEST_QUEUE_S, most_s)


def life_seconds(queue_s: float, timeout_s: float) -> float:
    """How long a job's links work that may wait for `queue_s` and work for `timeout_s`."""
    return queue_s + timeout_s + SPARE_S
