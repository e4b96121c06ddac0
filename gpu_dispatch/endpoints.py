"""Endpoints as the dispatcher sees them: what each can do, in which order they are asked, and where a task may go now.

Nothing here asks or waits. `now` is read from one clock of the caller's, whichever it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gpu_dispatch.backoff import Backoff
from gpu_dispatch.task import Capability

SOON_S = 2.0
"""When to look again at an endpoint that is full: a job may end at any moment."""

LATER_S = 30.0
"""When to look again at an endpoint that is ill, or stopped: somebody or something has to change first."""

PATIENCE = 3
"""Refusals in a row after which an endpoint is left alone for a while."""

PAUSES = Backoff(base_s=5.0, cap_s=300.0)

Verdict = Literal["well", "slow", "dead"]
"""What an endpoint says of itself: "slow" has workers that are throttled or ill, and may serve its queue yet; "dead"
serves nothing until somebody acts (no workers at all, denied, gone)."""


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


@dataclass(frozen=True, slots=True)
class EndpointState:
    """How an endpoint stands. `open_jobs` counts those of all listeners; `why` says in words what is wrong with it.

    One that is not `ok` gets nothing, unless it is a `last_resort`: it is slow rather than dead, and better than
    nobody. Before `not_before` it is left alone.
    """

    open_jobs: int
    ok: bool = True
    why: str = ""
    not_before: float = 0.0
    last_resort: bool = False


@dataclass(frozen=True, slots=True)
class NoEndpoint:
    """No endpoint takes a task now. `reasons`, one an endpoint, are words for a person; look again after `again_s`.

    `never`: waiting does not help; no endpoint of the configuration can do such a task.
    """

    reasons: tuple[str, ...]
    again_s: float
    never: bool = False


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """Why an endpoint is passed over, and for how long at least."""

    why: str
    again_s: float
    never: bool = False


def choose_endpoint(
    specs: Sequence[EndpointSpec],
    states: Mapping[str, EndpointState],
    *,
    capability: Capability,
    avoid: frozenset[str],
    refusals: Mapping[str, str],
    now: float,
    draw: float,
) -> EndpointSpec | NoEndpoint:
    """Where a task goes: the lowest order with anybody who can take it now, and there by weight.

    One that is well is preferred to any last resort, whatever their orders. `avoid` names endpoints that must not get
    this task again; `refusals` says why some cannot do it at all ("" or absent: they can). `draw` is uniform in
    [0, 1). An endpoint without a state is well and empty.
    """
    able = [spec for spec in specs if capability in spec.capabilities]
    well: list[EndpointSpec] = []
    poor: list[EndpointSpec] = []
    obstacles: list[tuple[str, _Obstacle]] = []
    for spec in able:
        state = states.get(spec.name, EndpointState(0))
        if obstacle := _obstacle(spec, state, avoid, refusals.get(spec.name, ""), now):
            obstacles.append((spec.name, obstacle))
        else:
            (well if state.ok else poor).append(spec)
    if candidates := well or poor:
        first = min(spec.order for spec in candidates)
        return _by_weight([spec for spec in candidates if spec.order == first], draw)
    if not able:
        return NoEndpoint((f"no endpoint has the capability {capability}",), LATER_S, never=True)
    return NoEndpoint(
        tuple(f"{name}: {obstacle.why}" for name, obstacle in obstacles),
        min(obstacle.again_s for _, obstacle in obstacles),
        never=all(obstacle.never for _, obstacle in obstacles),
    )


def _obstacle(
    spec: EndpointSpec, state: EndpointState, avoid: frozenset[str], refusal: str, now: float
) -> _Obstacle | None:
    if refusal:
        return _Obstacle(refusal, LATER_S, never=True)
    if spec.concurrency == 0:
        return _Obstacle("it is stopped (concurrency: 0)", LATER_S)
    if spec.name in avoid:
        return _Obstacle("it has had this task already", LATER_S)
    if not (state.ok or state.last_resort):
        return _Obstacle(state.why or "it is not well", LATER_S)
    if state.not_before > now:
        return _Obstacle(state.why or "it asked to be left alone for a while", state.not_before - now)
    if spec.concurrency is not None and state.open_jobs >= spec.concurrency:
        return _Obstacle(f"{state.open_jobs} of {spec.concurrency} jobs are there already", SOON_S)
    return None


def _by_weight(specs: Sequence[EndpointSpec], draw: float) -> EndpointSpec:
    left = draw * sum(spec.weight for spec in specs)
    for spec in specs:
        left -= spec.weight
        if left < 0.0:
            return spec
    return specs[-1]


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """What is known of one endpoint by its answers. Each method gives the standing after something happened.

    `failures` are submissions in a row that it did not take. From `PATIENCE` on it is left alone for a while, then one
    submission tries whether it is back; each failure more doubles the pause.
    """

    failures: int = 0
    not_before: float = 0.0
    why: str = ""
    verdict: Verdict = "well"
    complaint: str = ""

    def taken(self) -> CircuitBreaker:
        """It took a task. What it says of its workers stays as it was: a queue takes tasks without any."""
        return replace(self, failures=0, not_before=0.0, why="")

    def refused(self, why: str, now: float, *, wait_s: float = 0.0) -> CircuitBreaker:
        """It did not take a task, for certain. `wait_s` is how long it asked to be left alone (Retry-After)."""
        failures = self.failures + 1
        pause = PAUSES.bound(failures - PATIENCE + 1) if failures >= PATIENCE else 0.0
        return replace(self, failures=failures, why=why, not_before=max(self.not_before, now + max(pause, wait_s)))

    def trying(self, now: float) -> CircuitBreaker:
        """A task is being sent. One that had been left alone gets no second one until this one's outcome is known."""
        if self.failures < PATIENCE:
            return self
        return replace(self, not_before=max(self.not_before, now + PAUSES.bound(self.failures - PATIENCE + 1)))

    def told(self, verdict: Verdict, complaint: str = "") -> CircuitBreaker:
        """It was asked for its health."""
        return replace(self, verdict=verdict, complaint=complaint if verdict != "well" else "")

    def state(self, open_jobs: int) -> EndpointState:
        return EndpointState(
            open_jobs,
            ok=self.verdict == "well",
            why=self.complaint or self.why,
            not_before=self.not_before,
            last_resort=self.verdict == "slow",
        )
