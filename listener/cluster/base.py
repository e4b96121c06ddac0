"""Several listeners on one database: who is who, who leads what, who is gone. A single one leads everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol


class Cluster(Protocol):
    """What a listener knows of the others. It is opened once and closed once."""

    @property
    def member(self) -> str:
        """This listener's name among the others: "m1", "m2", …; "m1" where it is alone. It stays while it is open."""
        ...

    @property
    def sure(self) -> bool:
        """Whether this process is certainly `member`, by the clock of this very moment: a process that was stopped
        and goes on sees False before any timer has told it. False also while the database is away; it may come back.
        """
        ...

    @property
    def lost(self) -> asyncio.Event:
        """Set, for good, once somebody else has taken this listener's place: the process has to end then."""
        ...

    async def open(self) -> None:
        """Takes the first free place. Raises ConfigError (no place is free, the database cannot serve) and
        StoreUnavailable."""
        ...

    async def close(self) -> None:
        """Gives the place back. Whatever `lead` and `orphans` were used for has ended before."""
        ...

    async def lead(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs `work` whenever this listener leads `name`, cancels it when it leads no longer; until cancelled.

        Outlives the database. Work that ends by itself ends this call, with the error it raised. Cancelled work has
        to end within two seconds: nobody else begins it before.
        """
        ...

    def orphans(self, among: Collection[str]) -> AbstractAsyncContextManager[tuple[str, ...]]:
        """Those members of `among` that no process stands for now, in order; never this one.

        Nobody can become one of them, or be given one of them, while the context lasts. It is cut short with
        StoreUnavailable when that cannot be kept up, and begins with it when the database is away.
        """
        ...


class SingleListener:
    """For a database that one process uses (listener/config/state.py keeps a second one off a file)."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()

    @property
    def member(self) -> str:
        return "m1"

    @property
    def sure(self) -> bool:
        return True

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def lead(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:  # noqa: ARG002
        await work()

    @asynccontextmanager
    async def orphans(self, among: Collection[str]) -> AsyncGenerator[tuple[str, ...]]:  # noqa: ARG002
        yield ()
