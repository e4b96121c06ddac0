"""Several transfers at the same time, and one error for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from manifests.error_groups import task_group

AT_ONCE = 4
"""Files of one job, or parts of one file, under way at the same time."""


async def gather_transfers(works: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Does `works`, AT_ONCE at a time. The first error ends the others; the one that decides is raised."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def gated(work: Callable[[], Awaitable[None]]) -> None:
        async with gate:
            await work()

    async with task_group() as group:
        for work in works:
            group.create_task(gated(work))
