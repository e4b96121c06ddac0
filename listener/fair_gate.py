"""A gate that lets so many through at once; those who wait for it take turns by their folders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from gpu_dispatch.fair_queue import FairQueue, Path


class FairGate:
    """Belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    @asynccontextmanager
    async def turn(self, path: Path) -> AsyncGenerator[None]:
        """One of the places inside; `path` says whose turn it is that is waited for."""
        if self._free > 0:
            self._free -= 1
        else:
            passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.push(path, passed)
            try:
                await passed
            except asyncio.CancelledError:
                if passed.done() and not passed.cancelled():
                    self._leave()
                raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        """The place goes to whoever is next, not to a newcomer."""
        while self._waiting:
            passed = self._waiting.pop()
            if not passed.done():
                passed.set_result(None)
                return
        self._free += 1
