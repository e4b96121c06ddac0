"""A refusal of one object, told from a store that refuses everything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from listener.store import Store
from manifests.errors import ObjectDenied, StoreDenied
from manifests.media import ObjectRef

T = TypeVar("T")

REFUSED_S = 30.0
"""How long a refusal of one object may last: keys and policies take a moment until they are in force."""
AGAIN_S = 2.0


class Refusals:
    """The measure is the run's own drop: while that cannot be looked up, everything is refused."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def check(self, drop: ObjectRef) -> None:
        """Returns when the store serves `drop`. Raises StoreDenied or StoreUnavailable when it does not."""
        await self._store.head(drop.bucket, drop.key)

    async def outlasted(self, work: Callable[[], Awaitable[T]], drop: ObjectRef, at_most_s: float) -> T:
        """The outcome of `work` on another object than `drop`, done again while that one is refused.

        Raises ObjectDenied after `at_most_s`, and what is wrong with the store when `drop` is refused as well.
        """
        now = asyncio.get_running_loop().time
        until = now() + at_most_s
        while True:
            try:
                return await work()
            except ObjectDenied:
                raise
            except StoreDenied as e:
                await self.check(drop)
                if now() >= until:
                    raise object_refused(e) from e
            await asyncio.sleep(min(AGAIN_S, at_most_s))


def object_refused(error: StoreDenied, where: str = "") -> ObjectDenied:
    """`error`, which is about one object after all."""
    return ObjectDenied(str(error), hint=error.info.hint, where=where or error.info.where)
