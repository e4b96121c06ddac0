"""Progress on its way to the provider: the newest only, one at a time, seldom, and none after the end of the work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from gpu_dispatch.task import Progress

EVERY_S = 1.0
FLUSH_S = 5.0
"""How long the end of the work waits for a post under way."""

Send = Callable[[Progress], Awaitable[None]]
"""Returns when the provider has it, or never will."""


@asynccontextmanager
async def post_progress(
    send: Send, *, every_s: float = EVERY_S, flush_s: float = FLUSH_S
) -> AsyncGenerator[Callable[[Progress], None]]:
    """Gives what may be told the progress, from any thread. Left, it has no post under way: a late one would reach the
    provider after the result and take its place."""
    posts = _ProgressPoster(send, every_s)
    posting = asyncio.create_task(posts.run())
    try:
        yield posts.offer
    finally:
        posts.close()
        await asyncio.wait({posting}, timeout=flush_s)
        posting.cancel()
        await asyncio.wait({posting})


class _ProgressPoster:
    def __init__(self, send: Send, every_s: float) -> None:
        self._send = send
        self._every_s = every_s
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._closed = asyncio.Event()
        self._newest: Progress | None = None

    def offer(self, progress: Progress) -> None:
        self._newest = progress
        self._loop.call_soon_threadsafe(self._news.set)

    def close(self) -> None:
        self._closed.set()
        self._news.set()

    async def run(self) -> None:
        while True:
            await self._news.wait()
            if self._closed.is_set():
                return
            self._news.clear()
            if self._newest is not None:
                await self._send(self._newest)
            try:
                async with asyncio.timeout(self._every_s):
                    await self._closed.wait()
            except TimeoutError:
                continue
