"""Keys in this listener's hands that it has not looked at yet. What does not fit waits in the database for a claim."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from listener.ledger.inbox import Item

ROOM = 4000


class Backlog:
    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._changed = asyncio.Event()
        self.others = True
        """Whether keys may wait for a claim: some were left there, or told again while somebody held them."""
        self.doubt = False
        """Whether the database may hold more for this listener than is here: it was away, and its answers with it."""

    def __len__(self) -> int:
        return len(self._items)

    def has_room(self, n: int) -> bool:
        return not self._items or len(self._items) + n <= ROOM

    def put(self, items: Iterable[Item], *, others: bool) -> None:
        self._items.extend(items)
        self.others = self.others or others
        self._changed.set()

    def doubted(self) -> None:
        self.doubt = True
        self._changed.set()

    def regain(self, held: Iterable[Item]) -> None:
        """What is not here of all that this listener holds. One that is being recorded now may come twice."""
        here = {(item.told.bucket, item.told.key) for item in self._items}
        self._items.extend(item for item in held if (item.told.bucket, item.told.key) not in here)

    def take(self, limit: int) -> list[Item]:
        return [self._items.popleft() for _ in range(min(limit, len(self._items)))]

    async def wait(self, at_most_s: float) -> None:
        """Returns when something was put, or after `at_most_s`."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()
