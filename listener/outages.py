"""Waiting for the store and the ledger: a run that was accepted outlives what they answer (`manifests.error_classes`).

One `OutageRetry` serves all runs, so that a store that is away is told once, not once a run, and whoever finds it back
wakes the others.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import structlog

from gpu_dispatch.net.retries import RUN_STEP, Failure, Retries
from manifests.error_classes import is_waited_for
from manifests.errors import GpuDropError, StoreUnavailable

T = TypeVar("T")
P = ParamSpec("P")
Hearer = Callable[[str], None]
"""Is told what a run waits for, in words, and "" once it goes on."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.patience")

REFUSED_FOR_S = 7 * 86400.0
"""A refusal that nobody mends for so long is final. A store that is away is waited for without end."""
REPEAT_S = 60.0
"""How often the log says again what is waited for."""
WAKE_S = 1.0
"""Those that wait ask again within this, once one of them was served."""

_hearer: ContextVar[Hearer | None] = ContextVar("hearer", default=None)


@contextmanager
def report_waits(hearer: Hearer) -> Generator[None]:
    """Inside, `hearer` is told of every wait of this task and of tasks it makes."""
    token = _hearer.set(hearer)
    try:
        yield
    finally:
        _hearer.reset(token)


@dataclass(slots=True)
class _Outage:
    """One thing that is waited for: an error's code and remedy. `since` and `told` are times of
    `OutageRetry`'s clock.
    """

    since: float
    told: float
    waiting: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)


class OutageRetry:
    """`now` is a clock that never goes back, nor jumps. Belongs to one event loop."""

    def __init__(self, rng: random.Random, *, now: Callable[[], float] = time.monotonic) -> None:
        self._rng = rng
        self._now = now
        self._outages: dict[tuple[str, str], _Outage] = {}

    @property
    def waiting(self) -> int:
        """How many calls wait now."""
        return sum(outage.waiting for outage in self._outages.values())

    async def retry(self, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """The outcome of `work`, done again while the store or the ledger is away, or refuses for a week at most."""
        return await self._waited(
            lambda: work(*args, **kwargs), lambda e: None if isinstance(e, StoreUnavailable) else REFUSED_FOR_S
        )

    async def within(self, give_up_s: float, work: Callable[[], Awaitable[T]]) -> T:
        """As `patiently`, for `give_up_s` after the first failure; then the failure is raised."""
        return await self._waited(work, lambda _: give_up_s)

    async def _waited(self, work: Callable[[], Awaitable[T]], limit_s: Callable[[GpuDropError], float | None]) -> T:
        heard = _hearer.get()
        began: float | None = None
        said = ""

        def waits(error: Exception) -> bool:
            nonlocal began
            if not isinstance(error, GpuDropError) or not is_waited_for(error):
                return False
            began = self._now() if began is None else began
            limit = limit_s(error)
            return limit is None or self._now() - began <= limit

        def told(failure: Failure) -> None:
            nonlocal said
            words = f"{failure.known} {failure.known.info.hint}".strip()
            if heard and words != said:
                heard(words)
            said = words

        retries = Retries(RUN_STEP, rng=self._rng)
        result = await retries.call(work, on=waits, told=told, wait=self._wait)
        if began is not None:
            self._served()
            if heard:
                heard("")
        return result

    async def _wait(self, failure: Failure) -> None:
        outage = self._outage(failure.known)
        outage.waiting += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(failure.wait_s):
                    await outage.over.wait()
                    await asyncio.sleep(self._rng.uniform(0.0, WAKE_S))
        finally:
            outage.waiting -= 1

    def _outage(self, error: GpuDropError) -> _Outage:
        """What `error` is one of; told in the log when it begins, and every minute."""
        what, now = (error.info.code, error.info.hint), self._now()
        outage = self._outages.get(what)
        if outage is None:
            outage = self._outages[what] = _Outage(since=now, told=now - REPEAT_S)
        told = {"code": error.info.code, "error": str(error), "hint": error.info.hint, "waiting": outage.waiting + 1}
        if now - outage.told >= REPEAT_S:
            outage.told = now
            log.warning("runs_wait", **told, for_s=round(now - outage.since))
        else:
            log.debug("run_waits", **told)
        return outage

    def _served(self) -> None:
        """Somebody who waited was served: whoever else waits asks again soon."""
        now = self._now()
        for what, outage in list(self._outages.items()):
            outage.over.set()
            outage.over = asyncio.Event()
            if not outage.waiting:
                del self._outages[what]
                log.info("runs_go_on", code=what[0], after_s=round(now - outage.since, 1))
