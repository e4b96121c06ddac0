"""Events from a folder used as a bucket: files that appear, change and vanish."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from watchfiles import Change

from gpu_dispatch.net.retries import FOLDER_WATCH, Failure, Retries
from listener.events import ObjectCreated, ObjectEvent, ObjectRemoved
from listener.sources.base import Condition, Inbox
from listener.sources.delivery import deliver
from listener.sources.folder.settling import Settling
from listener.sources.folder.tree import key_of, look, look_around
from listener.sources.folder.watching import Changes, changes
from manifests.errors import SourceUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.folder")


@dataclass(frozen=True, slots=True)
class FolderWatchSettings:
    """`root` must exist; `polling` looks at every file once a second instead of asking the system to tell."""

    root: Path
    bucket: str
    polling: bool = False


class FolderWatch:
    """A file is told once it has stayed as it is for a moment (see `settling`), a vanished one at once."""

    name = "folder"
    exclusive = True

    def __init__(self, settings: FolderWatchSettings) -> None:
        self._root = settings.root.resolve()
        self._bucket = settings.bucket
        self._polling = settings.polling
        self._begun = False

    async def run(self, inbox: Inbox) -> None:
        def told(failure: Failure) -> None:
            inbox.report(self.name, Condition.trouble(failure.known))
            why, wait_s = str(failure.error.__cause__), round(failure.wait_s, 2)
            log.error("folder_not_watched", root=str(self._root), error=why, retry_s=wait_s)

        watched = partial(self._watched, inbox)
        await Retries(FOLDER_WATCH).call(watched, on=lambda e: isinstance(e, SourceUnavailable), told=told)

    async def _watched(self, inbox: Inbox) -> None:
        """One watch from its beginning to its end. Raises SourceUnavailable."""
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
        settling = Settling()
        async with aclosing(changes(self._root, polling=self._polling)) as found:
            async for changed in found:
                if not self._begun:
                    self._begun = True
                    log.info("folder_watched", root=str(self._root), polling=self._polling)
                    inbox.report(self.name, Condition(True, f"watching {self._root}"))
                    inbox.gap(self.name, f"watching {self._bucket} has begun")
                events = await self._removed(changed, settling) if changed else []
                events += await self._settled(settling)
                await deliver(inbox, events, source=self.name)
        raise OSError("the watch ended")

    async def _removed(self, changed: Changes, settling: Settling) -> list[ObjectEvent]:
        """Takes new and changed files to `settling`; returns the removals."""
        told = [(change, key) for change, path in changed if (key := key_of(self._root, path))]
        keys = sorted({key for _, key in told})
        # Polling tells the files of a new folder by itself.
        added = {key for change, key in told if change is Change.added and not self._polling}
        looks = await asyncio.to_thread(look_around, self._root, keys, added)
        now = asyncio.get_running_loop().time()
        removed: list[ObjectEvent] = []
        for seen in looks:
            if seen.stamp is not None:
                settling.seen(seen.key, seen.stamp, now)
            elif seen.kind == "nothing":
                settling.gone(seen.key)
                removed.append(ObjectRemoved(self._bucket, seen.key, self.name))
        return removed

    async def _settled(self, settling: Settling) -> list[ObjectEvent]:
        loop = asyncio.get_running_loop()
        due = settling.due(loop.time())
        if not due:
            return []
        looks = await asyncio.to_thread(look, self._root, due)
        finished = settling.finished({seen.key: seen.stamp for seen in looks}, loop.time())
        return [ObjectCreated(self._bucket, key, self.name) for key in finished]
