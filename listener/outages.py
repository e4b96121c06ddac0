"""Retries of accepted runs while the store or the ledger does not serve them (`manifests.error_classes` lists errors).

One `OutageRetry` serves all runs: an outage is logged once, not once per run, and the first call that succeeds wakes
the others.
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
WaitObserver = Callable[[str], None]
"""Receives what a run waits for, in words, and "" once the run goes on."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.patience")

REFUSED_FOR_S = 7 * 86400.0
"""Seconds after which a refusal is final. A store that is unavailable is waited for without limit."""
REPEAT_S = 60.0
"""Seconds between log entries about the same outage."""
WAKE_S = 1.0
"""Seconds within which all waiting calls are tried again once one of them has succeeded."""

_observer: ContextVar[WaitObserver | None] = ContextVar("hearer", default=None)


@contextmanager
def report_waits(observer: WaitObserver) -> Generator[None]:
    """Tells `observer` of every wait of this task, and of tasks that it creates, inside the context."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


@dataclass(slots=True)
class _Outage:
    """One error that calls wait for, known by code and hint. Times are seconds of `OutageRetry`'s clock."""

    since: float
    logged_at: float
    """When it was last logged as a warning."""
    waiting: int = 0
    """Calls that wait now."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced, when a waiting call has succeeded."""


class OutageRetry:
    """Retries calls during outages. `now` is a clock that never goes back nor jumps. Belongs to one event loop."""

    def __init__(self, rng: random.Random, *, now: Callable[[], float] = time.monotonic) -> None:
        self._rng = rng
        self._now = now
        self._outages: dict[tuple[str, str], _Outage] = {}

    @property
    def waiting(self) -> int:
        """The number of calls that wait now."""
        return sum(outage.waiting for outage in self._outages.values())

    async def retry(self, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns the result of `work`, retried while store or ledger are unavailable, a refusal for a week at most."""
        return await self._waited(
            lambda: work(*args, **kwargs), lambda e: None if isinstance(e, StoreUnavailable) else REFUSED_FOR_S
        )

    async def within(self, give_up_s: float, work: Callable[[], Awaitable[T]]) -> T:
        """Does the same as `retry` until `give_up_s` seconds after the first failure, then raises the error."""
        return await self._waited(work, lambda _: give_up_s)

    async def _waited(self, work: Callable[[], Awaitable[T]], limit_s: Callable[[GpuDropError], float | None]) -> T:
        heard = _observer.get()
        began: float | None = None
        said = ""

        def waits(error: Exception) -> bool:
            nonlocal began
            if not isinstance(error, GpuDropError) or not is_waited_for(error):
                return False
            began = self._now() if began is None else began
            limit = limit_s(error)
            return limit is None or self._now() - began <= limit

        def on_failure(failure: Failure) -> None:
            nonlocal said
            words = f"{failure.gpudrop_error} {failure.gpudrop_error.info.hint}".strip()
            if heard and words != said:
                heard(words)
            said = words

        retries = Retries(RUN_STEP, rng=self._rng)
        result = await retries.call(work, on=waits, on_failure=on_failure, wait=self._wait)
        if began is not None:
            self._wake_all()
            if heard:
                heard("")
        return result

    async def _wait(self, failure: Failure) -> None:
        outage = self._outage(failure.gpudrop_error)
        outage.waiting += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(failure.wait_s):
                    await outage.over.wait()
                    await asyncio.sleep(self._rng.uniform(0.0, WAKE_S))
        finally:
            outage.waiting -= 1

    def _outage(self, error: GpuDropError) -> _Outage:
        """Returns the outage that `error` belongs to, and logs it when it begins and every minute."""
        what, now = (error.info.code, error.info.hint), self._now()
        outage = self._outages.get(what)
        if outage is None:
            outage = self._outages[what] = _Outage(since=now, logged_at=now - REPEAT_S)
        told = {"code": error.info.code, "error": str(error), "hint": error.info.hint, "waiting": outage.waiting + 1}
        if now - outage.logged_at >= REPEAT_S:
            outage.logged_at = now
            log.warning("runs_wait", **told, for_s=round(now - outage.since))
        else:
            log.debug("run_waits", **told)
        return outage

    def _wake_all(self) -> None:
        """Wakes all waiting calls after one of them has succeeded."""
        now = self._now()
        for what, outage in list(self._outages.items()):
            outage.over.set()
            outage.over = asyncio.Event()
            if not outage.waiting:
                del self._outages[what]
                log.info("runs_go_on", code=what[0], after_s=round(now - outage.since, 1))
