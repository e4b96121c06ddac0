"""What a listener needs to know of others on its database: names, leads, orphans. A single one leads everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol


class Cluster(Protocol):
    """The listeners on one database, as one of them knows them. It is opened once and closed once."""

    @property
    def member(self) -> str:
        """This listener's name: "m1", "m2", …; "m1" where it is alone. It stays the same while the cluster is open."""
        ...

    @property
    def certain(self) -> bool:
        """Whether this process is certainly `member` at this moment.

        A process that was stopped and continues reads False before any of its timers fires. It is also False while the
        database is unavailable, and may be True again afterwards.
        """
        ...

    @property
    def lost(self) -> asyncio.Event:
        """Set, for good, once another process has taken this listener's place: this process must end then."""
        ...

    async def open(self) -> None:
        """Takes the first free place. Raises ConfigError (none is free, unusable database) and StoreUnavailable."""
        ...

    async def close(self) -> None:
        """Releases the place. Calls of `lead` and `orphans` must have ended before."""
        ...

    async def lead(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs `work` whenever this listener leads `name`, and cancels it when the lead is lost; until cancelled.

        Outages of the database do not end it. Work that ends by itself ends this call, with its error if it raised one.
        Cancelled work must end within two seconds: no other listener begins it before.
        """
        ...

    def orphans(self, among: Collection[str]) -> AbstractAsyncContextManager[tuple[str, ...]]:
        """Yields the members of `among` that have no process now, in order; never this one.

        No process can become one of them, and no other caller gets one of them, while the context lasts. The context
        raises StoreUnavailable as soon as that is uncertain, and when the database is unavailable at its start.
        """
        ...


class SingleListener:
    """The cluster of a database that one process uses (listener/config/state.py keeps a second one off a file)."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()

    @property
    def member(self) -> str:
        return "m1"

    @property
    def certain(self) -> bool:
        return True

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def lead(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:  # noqa: ARG002
        await work()

    @asynccontextmanager
    async def orphans(self, among: Collection[str]) -> AsyncGenerator[tuple[str, ...]]:  # noqa: ARG002
        yield ()
