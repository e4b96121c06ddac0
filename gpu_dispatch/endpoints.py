"""Selects endpoints: what each can do, its state, and which one gets a task now. Pure.

`now` is read from one clock of the caller's choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gpu_dispatch.backoff import Backoff
from gpu_dispatch.task import Capability

SOON_S = 2.0
"""Seconds until a full endpoint is considered again: a job may end at any moment."""

LATER_S = 30.0
"""Seconds until an unhealthy or stopped endpoint is considered again: something has to change first."""

FAILURE_THRESHOLD = 3
"""Refusals in a row after which the circuit breaker pauses an endpoint."""

PAUSES = Backoff(base_s=5.0, cap_s=300.0)

Verdict = Literal["well", "slow", "dead"]
"""An endpoint's health by its own report. "slow": its workers are throttled or unhealthy, but may still serve the
queue; "dead": it serves nothing until somebody acts (no workers at all, denied, gone)."""


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """One endpoint of the configuration."""

    name: str
    capabilities: frozenset[Capability]
    order: int = 0
    """Lower ones come first; endpoints of one order share the tasks by `weight`."""
    weight: float = 1.0
    concurrency: int | None = None
    """Most jobs at once, of all listeners; None: no limit, 0: stopped."""
    rate_per_s: float | None = None
    """Most submissions a second by this listener."""
    max_queue_s: float | None = None
    """Seconds in the queue after which a job is taken back and given to another endpoint."""
    hedge_after_s: float | None = None
    """Seconds in the queue after which a second job is sent beside the first."""
    usd_per_s: float = 0.0
    """Price of a second of work."""


@dataclass(frozen=True, slots=True)
class EndpointState:
    """The state of an endpoint, by which it is chosen or passed over."""

    open_jobs: int
    """Jobs of all listeners."""
    ok: bool = True
    """Without it the endpoint gets no task, unless it is a `last_resort`."""
    why: str = ""
    """What is wrong, in words."""
    not_before: float = 0.0
    """The endpoint gets no task before this moment."""
    last_resort: bool = False
    """It is slow rather than dead: it gets a task when no endpoint is `ok`."""


@dataclass(frozen=True, slots=True)
class NoEndpoint:
    """No endpoint takes a task now."""

    reasons: tuple[str, ...]
    """One for each endpoint, in words for a person."""
    again_s: float
    """Seconds after which to choose again."""
    never: bool = False
    """Waiting does not help: no endpoint of the configuration can do such a task."""


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """Why an endpoint is passed over, and for how many seconds at least."""

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
    """Returns an endpoint that can take the task now, of the lowest order and within it by weight; or why none can.

    An endpoint that is ok is preferred to any last resort, whatever their orders. `avoid` names endpoints that must
    not get this task again; `refusals` says why some cannot do it at all ("" or absent: they can). `draw` is uniform
    in [0, 1). An endpoint without a state is ok and has no jobs.
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
    """What one endpoint's answers say about it. Each method returns the breaker after an event.

    After `FAILURE_THRESHOLD` failures the endpoint is paused, then one submission probes it; each further failure
    doubles the pause.
    """

    failures: int = 0
    """Submissions in a row that it did not take."""
    not_before: float = 0.0
    why: str = ""
    verdict: Verdict = "well"
    detail: str = ""
    """What its last health report says is wrong."""

    def accepted(self) -> CircuitBreaker:
        """Records a task that was taken. The verdict stays: a queue takes tasks without any workers."""
        return replace(self, failures=0, not_before=0.0, why="")

    def refused(self, why: str, now: float, *, wait_s: float = 0.0) -> CircuitBreaker:
        """Records a task that was certainly not taken. `wait_s`: the pause that it asked for (Retry-After)."""
        failures = self.failures + 1
        pause = PAUSES.bound(failures - FAILURE_THRESHOLD + 1) if failures >= FAILURE_THRESHOLD else 0.0
        return replace(self, failures=failures, why=why, not_before=max(self.not_before, now + max(pause, wait_s)))

    def probing(self, now: float) -> CircuitBreaker:
        """Records that a task is being sent. A paused endpoint gets no second one meanwhile, for one pause at most."""
        if self.failures < FAILURE_THRESHOLD:
            return self
        return replace(self, not_before=max(self.not_before, now + PAUSES.bound(self.failures - FAILURE_THRESHOLD + 1)))

    def health_reported(self, verdict: Verdict, detail: str = "") -> CircuitBreaker:
        """Records the answer to a request for its health."""
        return replace(self, verdict=verdict, detail=detail if verdict != "well" else "")

    def state(self, open_jobs: int) -> EndpointState:
        return EndpointState(
            open_jobs,
            ok=self.verdict == "well",
            why=self.detail or self.why,
            not_before=self.not_before,
            last_resort=self.verdict == "slow",
        )
