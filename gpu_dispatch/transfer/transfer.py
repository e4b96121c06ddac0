"""A job's files in and out, by the scheme of their addresses: http(s), `file:` below the store's root, `data:`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from gpu_dispatch.task import TaskInput, TaskOutput
from gpu_dispatch.transfer.files import link_input, place_output, write_data
from gpu_dispatch.transfer.limits import Budget, TransferLimits
from gpu_dispatch.transfer.web import Moved, WebClient
from manifests.errors import InvalidPath

AT_ONCE = 4
"""Files of one job under way at the same time."""


class Transfer:
    """One job's way to the outside; use it as a context, it holds connections. Raises GpuDropError only."""

    def __init__(
        self,
        *,
        file_root: Path | None,
        trusted_hosts: tuple[str, ...],
        max_input_bytes: int,
        limits: TransferLimits | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._root = file_root
        self._budget = Budget(max_input_bytes)
        self._web = WebClient(trusted_hosts, limits or TransferLimits(), rng or random.Random())  # noqa: S311 - jitter

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._web.__aexit__(kind, e, tb)

    async def download(self, source: TaskInput, to: Path, moved: Moved) -> None:
        scheme = source.url.partition(":")[0].lower()
        if scheme in ("http", "https"):
            await self._web.get(source.url, to, name=source.name, budget=self._budget, moved=moved)
        elif scheme == "file":
            await asyncio.to_thread(link_input, source.url, to, name=source.name, root=self._root, budget=self._budget)
        elif scheme == "data":
            await asyncio.to_thread(write_data, source.url, to, name=source.name, budget=self._budget)
        else:
            raise _unknown(scheme, source.name)
        moved(1.0)

    async def upload(self, path: Path, target: TaskOutput, moved: Moved) -> None:
        """`path` may be gone afterwards."""
        scheme = target.url.partition(":")[0].lower()
        if scheme in ("http", "https"):
            await self._web.put(path, target.url, name=target.name, content_type=target.content_type, moved=moved)
        elif scheme == "file":
            await asyncio.to_thread(place_output, path, target.url, name=target.name, root=self._root)
        else:
            raise _unknown(scheme, target.name)
        moved(1.0)


async def all_of(works: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Does `works`, AT_ONCE at a time. The first error ends the others and is raised as it is."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def gated(work: Callable[[], Awaitable[None]]) -> None:
        async with gate:
            await work()

    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(gated(work))
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__


def _unknown(scheme: str, name: str) -> InvalidPath:
    return InvalidPath(
        f"{scheme}: addresses cannot be used here.", hint="Use http(s): or, below the store's root, file:.", where=name
    )
