"""Which endpoint gets a task, and whether it may cost what it will: waits until both are settled."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gpu_dispatch.backend import GpuBackend
from gpu_dispatch.endpoints import EndpointSpec, Nowhere
from listener.clock import Clock
from listener.dispatch.budgets import Budgets, never_enough, used_up
from listener.dispatch.estimates import Estimates, units_of
from listener.dispatch.link_guard import Held, LinkGuard, unsafe
from listener.dispatch.place_turns import PlaceTurns, Waiter
from listener.dispatch.pool import Pool
from listener.dispatch.request import JobRequest
from listener.dispatch.starts import PACE, next_start
from listener.fair_shares import path_of, share_of
from listener.ledger.jobs import JobLedger, JobRow, Refusal
from listener.signals import Ends
from manifests.errors import BudgetExceeded, EndpointUnavailable, TaskRefused

_FULL_S = 2.0
_LOOK_S = 60.0
"""A budget may be raised, a job may end cheaper than thought: nobody waits longer without asking again."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A reserved place: `row` stands in the ledger as an intent. `timeout_s` is what the worker may take."""

    row: JobRow
    backend: GpuBackend
    timeout_s: float


@dataclass(slots=True)
class _Search:
    """One round over the endpoints: those that turned out to have no room, and what money forbids."""

    passed: frozenset[str] = frozenset()
    full: frozenset[str] = frozenset()
    too_dear: dict[str, BudgetExceeded] = field(default_factory=dict[str, BudgetExceeded])
    used_up: Refusal | None = None
    held: Held = field(default_factory=Held)
    reasons: list[str] = field(default_factory=list[str])


class Placing:
    """`timeout_s`: what a worker may take. `waiting` is told why a task waits, in words, and () when it goes on."""

    def __init__(
        self,
        pool: Pool,
        ledger: JobLedger,
        estimates: Estimates,
        budgets: Budgets,
        ends: Ends,
        guard: LinkGuard,
        *,
        timeout_s: float,
        clock: Clock,
        waiting: Callable[[JobRequest, Sequence[str]], None],
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._estimates = estimates
        self._ends = ends
        self._guard = guard
        self._clock = clock
        self._waiting = waiting
        self._priced = frozenset(name for name in pool.names if (spec := pool.spec(name)) and spec.usd_per_s > 0)
        self.budgets = budgets
        self.timeout_s = timeout_s
        self._idle = Counter[str]()
        self._turns = PlaceTurns()

    @property
    def parked(self) -> int:
        """Tasks that wait for an endpoint or a budget."""
        return self._idle.total()

    @property
    def idle(self) -> Mapping[str, int]:
        """The same by share."""
        return self._idle

    async def admit(self, request: JobRequest) -> None:
        """Waits until a task may be sent once more. Raises TooManyStarts, and what ends the run."""
        starts = await self._ledger.starts(request.task_id)
        now = asyncio.get_running_loop().time
        due = now() + min(next_start(starts, request.waits_s) - self._clock(), PACE.cap_s)
        if due <= now():
            return
        while (left := due - now()) > 0:
            reasons = [f"it was sent {starts.count} times; the next try comes later"]
            await self._sleep(request, reasons, left)
        self._waiting(request, ())

    async def place(
        self,
        request: JobRequest,
        attempt: int,
        number: int,
        avoid: frozenset[str],
        never: frozenset[str] = frozenset(),
    ) -> Placed:
        """Job `number` of an attempt, somewhere; endpoints in `avoid` only when no other takes it now.

        Raises EndpointUnavailable when none is found until the request gives up, TaskRefused when none can do such a
        task, BudgetExceeded when at all that can it is dearer than a job or a day may be, and what ends the run.
        """
        waited = False
        with self._turns.waiter(path_of(share_of(request.bucket, request.key))) as waiter:
            while True:
                search = _Search()
                placed = await self._round(request, attempt, number, avoid | never, search)
                if placed is None and avoid:
                    placed = await self._round(request, attempt, number, never, search)
                if placed:
                    if waited:
                        self._waiting(request, ())
                    return placed
                able = self._pool.able(request.task.params)
                if search.too_dear and able <= search.too_dear.keys() | never:
                    raise next(iter(search.too_dear.values()))
                waited = True
                await self._wait(request, search, waiter, able - never)

    async def at_once(self, request: JobRequest, attempt: int, number: int, never: frozenset[str]) -> Placed | None:
        """Job `number` of an attempt at an endpoint that is not in `never`; None when no such has room now."""
        return await self._round(request, attempt, number, never, _Search())

    async def elsewhere(self, request: JobRequest, used: frozenset[str]) -> bool:
        """Whether an endpoint that is not in `used` would take the task now."""
        held = (await self._guard.held(request.bucket)).names
        return isinstance(self._pool.choose(request.task.params, used | held), EndpointSpec)

    async def _round(
        self, request: JobRequest, attempt: int, number: int, avoid: frozenset[str], search: _Search
    ) -> Placed | None:
        """A reserved place at the first endpoint that has room and is paid for. Notes in `search` what was met."""
        search.held = await self._guard.held(request.bucket)
        held = search.held.names
        while True:
            found = self._pool.choose(request.task.params, avoid | search.passed | held)
            if isinstance(found, Nowhere):
                if found.never and not search.passed:
                    raise _impossible(request, found)
                search.reasons = [r for r in found.reasons if r.partition(":")[0] not in search.passed | held]
                return None
            placed = self._meant(request, attempt, number, found)
            search.passed |= {found.name}
            if too_dear := self.budgets.too_dear(placed.row.estimate_usd, found):
                search.too_dear[found.name] = too_dear
                continue
            refusal = await self._ledger.reserve(placed.row, self.budgets.limits(request, found))
            if refusal is None:
                return placed
            if refusal.reason == "concurrency":
                search.full |= {found.name}
            elif too_dear := never_enough(placed.row, refusal):
                search.too_dear[found.name] = too_dear
            else:
                search.used_up = refusal
                search.passed |= self._priced

    def _meant(self, request: JobRequest, attempt: int, number: int, spec: EndpointSpec) -> Placed:
        backend = self._pool.backend(spec.name)
        if backend is None:
            raise EndpointUnavailable(f"{spec.name} is gone.", hint="Try again.")
        units = units_of(request.task)
        expected_s = self._estimates.seconds(request.operation, request.detail, spec.name, units)
        row = JobRow(
            entry=entry_of(request, attempt, number),
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
            estimate_usd=expected_s * spec.usd_per_s,
            usd=0.0,
            units=units,
            intended=self._clock(),
            sent=0.0,
            ended=0.0,
            delay_ms=0,
            execution_ms=0,
            outcome="",
        )
        return Placed(row, backend, self.budgets.seconds(spec, self.timeout_s))

    async def _wait(self, request: JobRequest, search: _Search, waiter: Waiter, able: frozenset[str]) -> None:
        """Money is waited for as long as it takes, an endpoint until the request gives up; for one of those in `able`
        that it may have tasks take turns.
        """
        if search.used_up:
            waiter.leave()
            await self._sleep(request, [used_up(request, search.used_up)], search.used_up.until - self._clock())
            return
        held = able & search.held.names
        nowhere_safe = bool(held) and held == able
        reasons = _reasons(search, held)
        if request.given_up(self._clock):
            raise unsafe(search.held) if nowhere_safe else _not_in_time(reasons)
        if nowhere_safe:
            # It waits for the operator, and keeps no other bucket's tasks from the place.
            waiter.leave()
            await self._sleep(request, reasons, _FULL_S)
            return
        mine = waiter.turn(able - held - frozenset(search.too_dear))
        if mine.is_set():
            await self._sleep(request, reasons, _FULL_S, self._pool.freed)
        else:
            left_s = request.give_up - self._clock()
            await self._sleep(request, reasons, left_s if left_s > 0 else _FULL_S, mine)

    async def _sleep(
        self, request: JobRequest, reasons: Sequence[str], for_s: float, until: asyncio.Event | None = None
    ) -> None:
        """For `for_s`, or until `until` is set. Raises what ends the run."""
        self._waiting(request, reasons)
        share = share_of(request.bucket, request.key)
        self._idle[share] += 1
        ended = asyncio.create_task(self._ends.wait(request.run_id))
        come = asyncio.create_task((until or asyncio.Event()).wait())
        try:
            timeout = min(max(for_s, 0.1), _LOOK_S)
            await asyncio.wait({ended, come}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            come.cancel()
            self._idle[share] -= 1
            if not self._idle[share]:
                del self._idle[share]
        self._ends.check(request.run_id)


def entry_of(request: JobRequest, attempt: int, number: int) -> str:
    """What job `number` of an attempt is called in the ledger."""
    return f"{request.task_id}-{attempt}-{number}"


def _reasons(search: _Search, held: frozenset[str]) -> list[str]:
    """Why no endpoint takes the task now, in words; links keep it from those in `held`."""
    reasons = [*search.reasons, *(f"{name}: all its places are taken" for name in sorted(search.full))]
    reasons += [f"{name}: {error}" for name, error in search.too_dear.items()]
    return reasons + [f"{name}: {search.held.why}" for name in sorted(held)]


def _not_in_time(reasons: Sequence[str]) -> EndpointUnavailable:
    return EndpointUnavailable(
        f"No endpoint took the task in time: {'; '.join(reasons)}.",
        hint="See `gpudrop endpoints`, then redrive.",
        retryable=False,
    )


def _impossible(request: JobRequest, found: Nowhere) -> TaskRefused:
    return TaskRefused(
        f"No endpoint can do this: {'; '.join(found.reasons)}.",
        hint=f"Add an endpoint with the capability {request.task.params.capability} to config.yaml, or ask for less.",
    )
