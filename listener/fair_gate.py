"""A gate that lets so many through at once; those who wait for it take turns by their folders.

Where one may stay inside for long, some places are kept for the neighbours of a folder that would take them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gpu_dispatch.fair_queue import FairQueue, Path


class FairGate:
    """Belongs to one event loop."""

    def __init__(self, limit: int, *, of_one: int | None = None) -> None:
        """`of_one`: so many of them may be of one folder at a bucket's root; None: as many as there are."""
        self._free = limit
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()
        self._of_one = of_one
        self._folders: dict[Path, _Folder] = {}

    @asynccontextmanager
    async def turn(self, path: Path) -> AsyncGenerator[None]:
        """One of the places inside; `path` says whose turn it is that is waited for."""
        if self._of_one is None:
            async with self._place(path):
                yield
            return
        name = path[:2]
        folder = self._folders.setdefault(name, _Folder(FairGate(self._of_one)))
        folder.here += 1
        try:
            async with folder.gate.turn(path), self._place(path):
                yield
        finally:
            folder.here -= 1
            if not folder.here:
                del self._folders[name]

    @asynccontextmanager
    async def _place(self, path: Path) -> AsyncGenerator[None]:
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


@dataclass(slots=True)
class _Folder:
    """The gate before the gate, for those of one folder; `here` are inside or wait."""

    gate: FairGate
    here: int = 0
