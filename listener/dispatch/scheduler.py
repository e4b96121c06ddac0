"""Chooses the endpoint of a task, within its budgets, and waits until there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from gpu_dispatch.backend import GpuBackend
from gpu_dispatch.endpoints import EndpointSpec, NoEndpoint
from listener.clock import Clock
from listener.dispatch.budgets import CostModel, never_enough, used_up
from listener.dispatch.endpoint_pool import EndpointPool
from listener.dispatch.estimates import units_of
from listener.dispatch.limits import PACE, Deadlines, next_start
from listener.dispatch.link_guard import LinkBlock, LinkGuard, links_unsafe
from listener.dispatch.parked_tasks import ParkedTasks, Waiter
from listener.dispatch.request import JobRequest
from listener.ledger.job_rows import JobRow
from listener.ledger.jobs import JobLedger
from listener.ledger.quotas import QuotaRefusal
from manifests.errors import BudgetExceeded, EndpointUnavailable, TaskRefused

_FULL_S = 2.0
"""Seconds before a task asks again for a slot where none is free."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A reserved slot at an endpoint."""

    row: JobRow
    """Recorded in the ledger as intended."""
    backend: GpuBackend
    timeout_s: float
    """Seconds that the worker may take."""


@dataclass(slots=True)
class _PlacementSearch:
    """What one search over the endpoints met."""

    passed: frozenset[str] = frozenset()
    full: frozenset[str] = frozenset()
    too_expensive: dict[str, BudgetExceeded] = field(default_factory=dict[str, BudgetExceeded])
    used_up: QuotaRefusal | None = None
    blocked: LinkBlock = field(default_factory=LinkBlock)
    reasons: list[str] = field(default_factory=list[str])


class Scheduler:
    """Finds each task an endpoint that can do it, has room, and is within budget; reserves the slot in the ledger."""

    def __init__(
        self,
        pool: EndpointPool,
        ledger: JobLedger,
        costs: CostModel,
        guard: LinkGuard,
        parked: ParkedTasks,
        *,
        deadlines: Deadlines,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._costs = costs
        self._guard = guard
        self._parked = parked
        self._deadlines = deadlines
        self._clock = clock
        self._priced = frozenset(name for name in pool.names if (spec := pool.spec(name)) and spec.usd_per_s > 0)

    @property
    def wanted(self) -> frozenset[str]:
        """Endpoints that tasks wait for."""
        return self._parked.wanted

    async def admit(self, request: JobRequest, *, first: bool) -> None:
        """Waits until a task may be sent, the `first` time at once. Raises TooManyStarts and the error that ends the
        run."""
        self._parked.check(request)
        if first:
            return
        starts = await self._ledger.starts(request.task_id)
        now = asyncio.get_running_loop().time
        due = now() + min(next_start(starts, request.waits_s) - self._clock(), PACE.cap_s)
        if due <= now():
            return
        while (left := due - now()) > 0:
            reasons = [f"it was sent {starts.count} times; the next try comes later"]
            await self._parked.sleep(request, reasons, left)
        self._parked.resumed(request)

    async def place(
        self,
        request: JobRequest,
        attempt: int,
        number: int,
        avoid: frozenset[str],
        never: frozenset[str] = frozenset(),
    ) -> Placement:
        """Reserves a slot for job `number` of an attempt; at endpoints in `avoid` only when no other takes it now.

        Raises EndpointUnavailable when none is found until the request gives up, TaskRefused when none can do such a
        task, BudgetExceeded when all that can cost more than a job or a day may, and the error that ends the run.
        """
        waited = False
        with self._parked.waiter(request) as waiter:
            while True:
                search = _PlacementSearch()
                placement = await self._reserve(request, attempt, number, avoid | never, search)
                if placement is None and avoid:
                    placement = await self._reserve(request, attempt, number, never, search)
                if placement:
                    if waited:
                        self._parked.resumed(request)
                    return placement
                able = self._pool.able(request.task.params)
                if search.too_expensive and able <= search.too_expensive.keys() | never:
                    raise next(iter(search.too_expensive.values()))
                waited = True
                await self._wait(request, search, waiter, able - never)

    async def place_now(
        self, request: JobRequest, attempt: int, number: int, never: frozenset[str]
    ) -> Placement | None:
        """Reserves a slot for job `number` of an attempt at an endpoint that is not in `never`, and that no task waits
        for; None when none has room now."""
        return await self._reserve(request, attempt, number, never | self._parked.wanted, _PlacementSearch())

    async def has_room(self, request: JobRequest, used: frozenset[str]) -> bool:
        """Whether an endpoint that is not in `used` would take the task now."""
        blocked = (await self._guard.blocked(request.bucket)).names
        return isinstance(self._pool.choose(request.task.params, used | blocked), EndpointSpec)

    async def _reserve(
        self, request: JobRequest, attempt: int, number: int, avoid: frozenset[str], search: _PlacementSearch
    ) -> Placement | None:
        """Reserves a slot at the first endpoint that has room and is within budget. Notes in `search` what it met."""
        search.blocked = await self._guard.blocked(request.bucket)
        blocked = search.blocked.names
        while True:
            found = self._pool.choose(request.task.params, avoid | search.passed | blocked)
            if isinstance(found, NoEndpoint):
                if found.never and not search.passed:
                    raise _impossible(request, found)
                search.reasons = [r for r in found.reasons if r.partition(":")[0] not in search.passed | blocked]
                return None
            placement = self._intended(request, attempt, number, found)
            search.passed |= {found.name}
            if too_expensive := self._costs.budgets.too_expensive(placement.row.estimate_usd, found):
                search.too_expensive[found.name] = too_expensive
                continue
            refusal = await self._ledger.reserve(placement.row, self._costs.budgets.limits(request, found))
            if refusal is None:
                return placement
            self._note(search, placement.row, refusal)

    def _note(self, search: _PlacementSearch, row: JobRow, refusal: QuotaRefusal) -> None:
        """Notes why the ledger gave no slot."""
        if refusal.reason == "concurrency":
            search.full |= {row.endpoint}
        elif too_expensive := never_enough(row, refusal):
            search.too_expensive[row.endpoint] = too_expensive
        else:
            search.used_up = refusal
            search.passed |= self._priced

    def _intended(self, request: JobRequest, attempt: int, number: int, spec: EndpointSpec) -> Placement:
        """Returns the slot at `spec`, not reserved yet."""
        backend = self._pool.backend(spec.name)
        if backend is None:
            raise EndpointUnavailable(f"{spec.name} is gone.", hint="Try again.")
        units = units_of(request.task)
        row = JobRow(
            entry=f"{request.task_id}-{attempt}-{number}",
            run_id=request.run_id,
            task_id=request.task_id,
            attempt=attempt,
            bucket=request.bucket,
            key=request.key,
            trigger=request.trigger,
            operation=request.operation,
            detail=request.detail,
            endpoint=spec.name,
            endpoint_id=backend.endpoint_id,
            dialect=self._pool.dialect(spec.name),
            job_id="",
            state="intended",
            usd_per_s=spec.usd_per_s,
            estimate_usd=self._costs.estimate_usd(request, spec, units),
            usd=0.0,
            units=units,
            intended=self._clock(),
            sent=0.0,
            ended=0.0,
            delay_ms=0,
            execution_ms=0,
            outcome="",
        )
        return Placement(row, backend, self._costs.budgets.seconds(spec, self._deadlines.work_s))

    async def _wait(self, request: JobRequest, search: _PlacementSearch, waiter: Waiter, able: frozenset[str]) -> None:
        """Waits for a budget as long as it takes, for an endpoint until the request gives up; tasks that wait for the
        same endpoints of `able` take turns."""
        if search.used_up:
            waiter.leave()
            for_s = search.used_up.until - self._clock()
            await self._parked.sleep(request, [used_up(request, search.used_up)], for_s)
            return
        blocked = able & search.blocked.names
        nowhere_safe = bool(blocked) and blocked == able
        reasons = _reasons(search, blocked)
        if request.given_up(self._clock):
            raise links_unsafe(search.blocked) if nowhere_safe else _not_in_time(reasons)
        if nowhere_safe:
            # It waits for the operator, and must not keep other buckets' tasks waiting.
            waiter.leave()
            await self._parked.sleep(request, reasons, _FULL_S)
            return
        mine = waiter.turn(able - blocked - frozenset(search.too_expensive))
        if mine.is_set():
            await self._parked.sleep(request, reasons, _FULL_S, self._pool.freed)
        else:
            left_s = request.give_up - self._clock()
            await self._parked.sleep(request, reasons, left_s if left_s > 0 else _FULL_S, mine)


def _reasons(search: _PlacementSearch, blocked: frozenset[str]) -> list[str]:
    """Says why no endpoint takes the task now; unsafe links keep it from those in `blocked`."""
    reasons = [*search.reasons, *(f"{name}: all its places are taken" for name in sorted(search.full))]
    reasons += [f"{name}: {error}" for name, error in search.too_expensive.items()]
    return reasons + [f"{name}: {search.blocked.why}" for name in sorted(blocked)]


def _not_in_time(reasons: Sequence[str]) -> EndpointUnavailable:
    return EndpointUnavailable(
        f"No endpoint took the task in time: {'; '.join(reasons)}.",
        hint="See `gpudrop endpoints`, then redrive.",
        retryable=False,
    )


def _impossible(request: JobRequest, found: NoEndpoint) -> TaskRefused:
    return TaskRefused(
        f"No endpoint can do this: {'; '.join(found.reasons)}.",
        hint=f"Add an endpoint with the capability {request.task.params.capability} to config.yaml, or ask for less.",
    )
