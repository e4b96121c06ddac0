"""The configured endpoints: their health, and which one a task goes to."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from gpu_dispatch.backend import GpuBackend, Health
from gpu_dispatch.endpoints import CircuitBreaker, EndpointSpec, NoEndpoint, Verdict, choose_endpoint
from gpu_dispatch.task import TaskParams
from manifests.errors import EndpointDenied, GpuDropError
from manifests.task_groups import gather_all

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

HEALTH_S = 30.0
"""Seconds between two health checks of the endpoints that outlive this process."""


@dataclass(frozen=True, slots=True)
class PooledEndpoint:
    """A configured endpoint and the backend that reaches it."""

    spec: EndpointSpec
    backend: GpuBackend
    dialect: str = ""
    """The dialect of its workers; "" on this machine."""
    resubmits: bool = False
    """Whether a task is sent again when it is unknown whether it was taken and no claim protects it."""


@dataclass(frozen=True, slots=True)
class RemovedEndpoint:
    """An endpoint that is on record and not in the configuration."""

    name: str
    endpoint_id: str
    """The provider's id."""
    dialect: str


class EndpointPool:
    """Knows every endpoint's backend and health, and chooses among them. Belongs to one event loop. `removed` returns
    the backend for jobs at an endpoint that is not among `endpoints`; `now` is a monotonic clock."""

    def __init__(
        self,
        endpoints: Sequence[PooledEndpoint],
        removed: Callable[[RemovedEndpoint], GpuBackend],
        *,
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._endpoints = {place.spec.name: place for place in endpoints}
        self._breakers = {name: CircuitBreaker() for name in self._endpoints}
        self._removed: dict[RemovedEndpoint, GpuBackend] = {}
        self._build_removed = removed
        self._open = Counter[str]()
        self._now = now
        self._rng = rng
        self.freed = asyncio.Event()
        """Set when a job has ended somewhere, and then replaced by a new event."""

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._endpoints)

    @property
    def unclaimed(self) -> frozenset[str]:
        """Endpoints whose workers ignore claims: a second job sent there would be done as well."""
        return frozenset(name for name, place in self._endpoints.items() if not place.backend.claims)

    def able(self, params: TaskParams) -> frozenset[str]:
        """Returns the endpoints that can do such a task, now or later."""
        return frozenset(
            name
            for name, place in self._endpoints.items()
            if params.capability in place.spec.capabilities and not place.backend.refusal(params)
        )

    def resubmits(self, name: str) -> bool:
        return name in self._endpoints and self._endpoints[name].resubmits

    def serves(self, name: str) -> bool:
        """False for an endpoint that said it has no workers, or is not there: what is queued there waits in vain."""
        return name in self._breakers and self._breakers[name].verdict != "dead"

    def backend(self, name: str) -> GpuBackend | None:
        """None for an endpoint that is not in the configuration."""
        place = self._endpoints.get(name)
        return place.backend if place else None

    def spec(self, name: str) -> EndpointSpec | None:
        place = self._endpoints.get(name)
        return place.spec if place else None

    def spec_of(self, backend: GpuBackend) -> EndpointSpec | None:
        """Returns the spec of the configured endpoint that uses `backend`; None where there is none."""
        return next((place.spec for place in self._endpoints.values() if place.backend is backend), None)

    def dialect(self, name: str) -> str:
        return self._endpoints[name].dialect

    def backend_for(self, name: str, endpoint_id: str, dialect: str) -> GpuBackend:
        """Returns the backend for jobs of endpoint `name`, as it was when they were sent: by now it may have another
        name, be another of the provider's endpoints, or not be configured at all."""
        same = self._endpoints.get(name)
        if same and (not dialect or same.backend.endpoint_id == endpoint_id):
            return same.backend
        for place in self._endpoints.values():
            if endpoint_id and place.backend.endpoint_id == endpoint_id:
                return place.backend
        endpoint = RemovedEndpoint(name, endpoint_id, dialect)
        if endpoint not in self._removed:
            self._removed[endpoint] = self._build_removed(endpoint)
        return self._removed[endpoint]

    def choose(self, params: TaskParams, avoid: frozenset[str]) -> EndpointSpec | NoEndpoint:
        """Chooses an endpoint for a task; `avoid` names those that must not get it."""
        return choose_endpoint(
            [place.spec for place in self._endpoints.values()],
            {name: breaker.state(self._open[name]) for name, breaker in self._breakers.items()},
            capability=params.capability,
            avoid=avoid,
            refusals={name: place.backend.refusal(params) for name, place in self._endpoints.items()},
            now=self._now(),
            draw=self._rng.random(),
        )

    def opened(self, name: str) -> None:
        """Counts a job that is there, or about to be."""
        self._open[name] += 1

    def closed(self, name: str) -> None:
        self._open[name] -= 1
        self.freed.set()
        self.freed = asyncio.Event()

    def submitting(self, name: str) -> None:
        self._breakers[name] = self._breakers[name].probing(self._now())

    def accepted(self, name: str) -> None:
        self._breakers[name] = self._breakers[name].accepted()

    def refused(self, name: str, error: GpuDropError) -> None:
        """Records that the endpoint did not take a task. One that denied us gets none before it is well again."""
        breaker = self._breakers[name].refused(str(error), self._now())
        if isinstance(error, EndpointDenied):
            breaker = breaker.health_reported("dead", f"{error} {error.info.hint}".strip())
        self._breakers[name] = breaker
        log.warning("endpoint_refused", endpoint=name, code=error.info.code, error=str(error), hint=error.info.hint)

    async def start(self) -> None:
        for place in self._endpoints.values():
            await place.backend.start()

    async def close(self) -> None:
        backends = [*(place.backend for place in self._endpoints.values()), *self._removed.values()]
        await gather_all(backend.close() for backend in backends)

    async def watch(self) -> None:
        """Checks the health of endpoints that outlive this process, until cancelled."""
        remote = [place for place in self._endpoints.values() if place.backend.durable]
        while True:
            await gather_all(self._check_health(place) for place in remote)
            await asyncio.sleep(HEALTH_S)

    async def _check_health(self, place: PooledEndpoint) -> None:
        name = place.spec.name
        verdict, complaint = _verdict(await place.backend.health())
        before = self._breakers[name]
        self._breakers[name] = before.health_reported(verdict, complaint)
        if before.verdict == verdict:
            return
        if verdict == "well":
            log.info("endpoint_well", endpoint=name)
        else:
            log.warning("endpoint_unwell", endpoint=name, state=verdict, detail=complaint)


def _verdict(lines: Sequence[Health]) -> tuple[Verdict, str]:
    bad = [line for line in lines if not line.ok]
    if not bad:
        return "well", ""
    worst = next((line for line in bad if not line.serves), bad[0])
    return ("slow" if worst.serves else "dead"), f"{worst.detail} {worst.remedy}".strip()
