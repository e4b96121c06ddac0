"""Room in memory for runs that name very many files: they take turns, everybody else goes on beside them."""

from __future__ import annotations

import asyncio
from collections import deque

MANY = 1000
"""Files of one manifest from which on a run needs room."""
MOST = 60_000
"""Files of all such runs that are told at once. Each takes some 3 kB until its run has ended."""


class FileRoom:
    """Belongs to one event loop."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def share_of(self, files: int) -> int:
        """What a run of so many files needs: 0 for most, never more than there is."""
        return min(files, self._most) if files > MANY else 0

    def try_take(self, share: int) -> bool:
        """Whether there was room, and nobody waited for it before."""
        if self._waiting or self._taken + share > self._most:
            return False
        self._taken += share
        return True

    async def take(self, share: int) -> None:
        """Waits for its turn; cancelled, it has taken nothing."""
        if self.try_take(share):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = share, turn
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.free(share)
            elif entry in self._waiting:
                self._waiting.remove(entry)
                self._next()
            raise

    def free(self, share: int) -> None:
        self._taken -= share
        self._next()

    def _next(self) -> None:
        while self._waiting and self._taken + self._waiting[0][0] <= self._most:
            share, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._taken += share
                turn.set_result(None)
