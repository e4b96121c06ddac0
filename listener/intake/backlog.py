"""Keys in this listener's hands that it has not looked at yet. What does not fit waits in the database for a claim."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

from gpu_dispatch.fair_queue import FairQueue
from listener.fair_shares import KEPT_FREE, share_of, share_path
from listener.ledger.inbox import InboxEntry

ROOM = 4000
_MOST = 4 * ROOM


class Backlog:
    """Keys leave in fair turns: those of one folder hold up no other's."""

    def __init__(self) -> None:
        self._items: FairQueue[InboxEntry] = FairQueue()
        self._changed = asyncio.Event()
        self.others = True
        """Whether keys may wait for a claim: some were left there, or told again while somebody held them."""
        self.doubt = False
        """Whether the database may hold more for this listener than is here: it was away, and its answers with it."""

    def __len__(self) -> int:
        return len(self._items)

    def shares_with_room(self, keys: Iterable[tuple[str, str]]) -> frozenset[str]:
        """Of which shares these keys (bucket, key) can be held; once it is full, of those that hold few."""
        shares = Counter(share_of(bucket, key) for bucket, key in keys)
        if not self._items or len(self._items) + shares.total() <= ROOM:
            return frozenset(shares)
        if len(self._items) + shares.total() > _MOST:
            return frozenset()
        few = ROOM // KEPT_FREE
        return frozenset(share for share, n in shares.items() if self._items.within(share_path(share)[:2]) + n <= few)

    def put(self, items: Iterable[InboxEntry], *, others: bool) -> None:
        self._push(items)
        self.others = self.others or others
        self._changed.set()

    def doubted(self) -> None:
        self.doubt = True
        self._changed.set()

    def regain(self, held: Iterable[InboxEntry]) -> None:
        """What is not here of all that this listener holds. One that is being recorded now may come twice."""
        here = {(item.told.bucket, item.told.key) for item in self._items}
        self._push(item for item in held if (item.told.bucket, item.told.key) not in here)

    def take(self, limit: int) -> list[InboxEntry]:
        return [self._items.pop() for _ in range(min(limit, len(self._items)))]

    def _push(self, items: Iterable[InboxEntry]) -> None:
        for item in items:
            self._items.push(share_path(share_of(item.told.bucket, item.told.key)), item)

    async def wait(self, at_most_s: float) -> None:
        """Returns when something was put, or after `at_most_s`."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()
