"""Waiting by name, and timers by job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Bells:
    """Futures of those who wait for something, by its name."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    async def heard(self, name: str, within_s: float) -> bool:
        """Waits for `ring(name)`; False when it did not come in time."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiting.setdefault(name, set())
        waiters.add(waiter)
        try:
            async with asyncio.timeout(within_s):
                await waiter
        except TimeoutError:
            return False
        finally:
            waiters.discard(waiter)
        return True

    def ring(self, name: str) -> None:
        for waiter in self._waiting.get(name, ()):
            if not waiter.done():
                waiter.set_result(None)


class Timers:
    """What shall happen to each job later."""

    def __init__(self) -> None:
        self._timers: dict[str, list[asyncio.TimerHandle]] = {}

    def after(self, job_id: str, seconds: float, act: Callable[[], object]) -> None:
        self._timers.setdefault(job_id, []).append(asyncio.get_running_loop().call_later(seconds, act))

    def end(self, job_id: str) -> None:
        for timer in self._timers.pop(job_id, ()):
            timer.cancel()

    def end_all(self) -> None:
        for job_id in list(self._timers):
            self.end(job_id)
