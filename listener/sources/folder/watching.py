"""watchfiles on a thread of its own: setting up a watch walks the whole tree, which must not block the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from watchfiles import Change, watch

_GATHER_MS = 200
_STEP_MS = 100
_TICK_MS = 200
_POLL_MS = 1000

Changes = set[tuple[Change, str]]


async def folder_changes(root: Path, *, polling: bool) -> AsyncGenerator[Changes, None]:
    """What changed below `root`, about every fifth of a second, also when nothing did; the first answer, which may be
    empty, tells that watching has begun.

    `polling` compares names and modification times in whole seconds, once a second: two writes within one second are
    told as one. Raises OSError when the watch cannot be set up, RuntimeError when the system gives up on it later.
    """
    loop = asyncio.get_running_loop()
    inode = (await asyncio.to_thread(root.stat)).st_ino
    stop = threading.Event()
    thread = ThreadPoolExecutor(1, thread_name_prefix="watch")
    generator = _watch(root, stop, polling=polling)
    step: asyncio.Future[Changes | None] | None = None
    try:
        while True:
            step = loop.run_in_executor(thread, _next, generator, root, inode)
            found = await asyncio.shield(step)
            if found is None:
                return
            yield found
    finally:
        stop.set()
        if step is not None:
            await asyncio.wait([step])
            if not step.cancelled():
                step.exception()
        await loop.run_in_executor(thread, generator.close)
        thread.shutdown(wait=False)


def _next(generator: Generator[Changes, None, None], root: Path, inode: int) -> Changes | None:
    """The system tells nothing when the watched folder itself is removed or replaced."""
    found = next(generator, None)
    if root.stat().st_ino != inode:
        raise FileNotFoundError(f"{root} was replaced by another folder")
    return found


def _watch(root: Path, stop: threading.Event, *, polling: bool) -> Generator[Changes, None, None]:
    return watch(
        root,
        watch_filter=None,
        debounce=_GATHER_MS,
        step=_STEP_MS,
        stop_event=stop,
        rust_timeout=_TICK_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
        force_polling=polling,
        poll_delay_ms=_POLL_MS,
        ignore_permission_denied=True,
    )
