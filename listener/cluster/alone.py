"""The only listener: it leads everything, and has nobody to take over from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any


class SingleListener:
    """For a database that one process uses (listener/configuration/state.py keeps a second one off a file)."""

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
