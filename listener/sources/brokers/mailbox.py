"""Messages that a client pushes, kept until they are collected."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from manifests.errors import GpuDropError

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Filled from the event loop's thread, emptied by one reader. How much it holds, the broker limits (prefetch)."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._lost: GpuDropError | None = None
        self._changed = asyncio.Event()

    def put(self, item: T) -> None:
        self._items.append(item)
        self._changed.set()

    def lose(self, error: GpuDropError) -> None:
        """The connection is gone, and with it the right to acknowledge: what was not taken will come again."""
        self._lost = self._lost or error
        self._changed.set()

    async def take(self, most: int, *, linger_s: float = 0.0) -> list[T]:
        """Waits for the first, and `linger_s` for others, then takes what is there. Raises what `lose` was told."""
        while not self._lost and not self._items:
            self._changed.clear()
            await self._changed.wait()
        if linger_s and len(self._items) < most:
            await asyncio.sleep(linger_s)
        if self._lost:
            raise self._lost
        return [self._items.popleft() for _ in range(min(most, len(self._items)))]
