"""Events from a folder used as a bucket: files that appear, change and vanish, watched or polled.

No event tells reliably that a file is written: not every file system reports a close, and a writer may open a file
twice. So a file counts once it has stayed as it is (`FileStability`); a writer that pauses for longer is reported
twice, and the second version supersedes the first. Setting up a watch walks the whole tree, which would block the event
loop in watchfiles' own coroutine: the watch has a thread (0.5 % of a core idle with 5,000 files). Where it cannot be
set up, as when inotify's limits are used up, the folder is polled (2 %). A name that is not UTF-8 ends the watch; it is
set up again, which is a gap. Events that the kernel's queue drops go unnoticed: listing finds them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from watchfiles import Change, watch

from gpu_dispatch.net.retries import FOLDER_WATCH, Failure, Retries
from listener.events.event import ObjectCreated, ObjectEvent, ObjectRemoved
from listener.sources.base import Condition, Deliveries, Inbox
from listener.sources.folder_tree import (
    PART,
    FileStability,
    changed_keys,
    examine_keys,
    examine_with_new_folders,
    in_turns,
)
from manifests.errors import SourceUnavailable
from manifests.task_groups import task_group

_GATHER_MS = 200
_STEP_MS = 100
_TICK_MS = 200
_POLL_MS = 1000

Changes = set[tuple[Change, str]]


async def folder_changes(root: Path, *, polling: bool) -> AsyncGenerator[Changes, None]:
    """Yields what changed below `root` about every 0.2 s, even when nothing did.

    The first yield, which may be empty, means that watching has begun. `polling` compares names and modification times
    in whole seconds, once a second, so two writes within one second are one change. Raises OSError when the watch
    cannot be set up, RuntimeError when the system ends it later.
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
    """Returns the next changes; None at the end of the watch.

    Raises FileNotFoundError when `root` itself was removed or replaced, which the system does not report.
    """
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


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.folder")


@dataclass(frozen=True, slots=True)
class FolderWatchSettings:
    """Settings of FolderWatch."""

    root: Path
    """Must exist."""
    bucket: str
    polling: bool = False
    """Compares every file once a second instead of asking the system for changes."""


class FolderWatch:
    """Watches a folder. A file becomes an event once it is stable (see FileStability), a removal at once."""

    name = "folder"
    exclusive = True

    def __init__(self, settings: FolderWatchSettings) -> None:
        self._root = settings.root.resolve()
        self._bucket = settings.bucket
        self._polling = settings.polling
        self._begun = False

    async def run(self, inbox: Inbox) -> None:
        def told(failure: Failure) -> None:
            inbox.report(self.name, Condition.problem(failure.gpudrop_error))
            why, wait_s = str(failure.error.__cause__), round(failure.wait_s, 2)
            log.error("folder_not_watched", root=str(self._root), error=why, retry_s=wait_s)

        watched = partial(self._watched, inbox)
        await Retries(FOLDER_WATCH).call(watched, on=lambda e: isinstance(e, SourceUnavailable), on_failure=told)

    async def _watched(self, inbox: Inbox) -> None:
        """Runs one watch to its end. Raises SourceUnavailable."""
        self._begun = False
        try:
            await self._follow(inbox)
        except (OSError, RuntimeError) as e:
            if not self._begun and not self._polling and await asyncio.to_thread(self._root.is_dir):
                self._poll_from_now_on(e)
                return await self._watched(inbox)
            hint = "It must be there, and this program must be allowed to read it."
            raise SourceUnavailable(f"The folder {self._root} cannot be watched: {e}.", hint=hint) from e

    def _poll_from_now_on(self, error: Exception) -> None:
        self._polling = True
        log.warning(
            "folder_polled",
            root=str(self._root),
            error=str(error),
            hint="Raise fs.inotify.max_user_watches and fs.inotify.max_user_instances, then start again.",
        )

    async def _follow(self, inbox: Inbox) -> None:
        async with task_group() as group:
            ended = await self._deliver_changes(inbox, Deliveries(inbox, self.name, group))
        raise ended

    async def _deliver_changes(self, inbox: Inbox, deliveries: Deliveries) -> OSError | RuntimeError:
        """Delivers changes until the watch ends; returns the error that ended it."""
        stability = FileStability()
        try:
            async with aclosing(folder_changes(self._root, polling=self._polling)) as found:
                async for changed in found:
                    if not self._begun:
                        self._begun = True
                        log.info("folder_watched", root=str(self._root), polling=self._polling)
                        inbox.report(self.name, Condition(True, f"watching {self._root}"))
                        inbox.gap(self.name, f"watching {self._bucket} has begun")
                    if changed:
                        await self._examine_changes(changed, stability, deliveries)
                    await self._finish(stability, deliveries)
        except (OSError, RuntimeError) as e:
            return e
        return OSError("the watch ended")

    async def _examine_changes(self, changed: Changes, stability: FileStability, deliveries: Deliveries) -> None:
        """Notes new and changed files in `stability`, and delivers removals."""
        told_of = await asyncio.to_thread(changed_keys, self._root, self._bucket, changed)
        # Polling reports the files of a new folder by itself.
        added = frozenset[str]() if self._polling else told_of.added
        for keys in told_of.parts:
            looks = await asyncio.to_thread(examine_with_new_folders, self._root, keys, added)
            now = asyncio.get_running_loop().time()
            removed: list[ObjectEvent] = []
            for seen in looks:
                if seen.stamp is not None:
                    stability.seen(seen.key, seen.stamp, now)
                elif seen.kind == "nothing":
                    stability.gone(seen.key)
                    removed.append(ObjectRemoved(self._bucket, seen.key, self.name))
            await deliveries.begin(removed)
            if len(told_of.parts) > 1:
                # A file that is stable by now need not wait for the rest of thousands.
                await self._finish(stability, deliveries)

    async def _finish(self, stability: FileStability, deliveries: Deliveries) -> None:
        """Delivers the files that are stable."""
        loop = asyncio.get_running_loop()
        due = stability.due(loop.time())
        parts = await asyncio.to_thread(in_turns, self._bucket, due) if len(due) > PART else [due] if due else []
        for keys in parts:
            looks = await asyncio.to_thread(examine_keys, self._root, keys)
            finished = stability.finished({seen.key: seen.stamp for seen in looks}, loop.time())
            await deliveries.begin([ObjectCreated(self._bucket, key, self.name) for key in finished])
