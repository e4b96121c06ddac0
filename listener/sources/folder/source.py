"""Events from a folder used as a bucket: files that appear, change and vanish."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from gpu_dispatch.net.retries import FOLDER_WATCH, Failure, Retries
from listener.events import ObjectCreated, ObjectEvent, ObjectRemoved
from listener.sources.base import Condition, Inbox
from listener.sources.delivery import Deliveries
from listener.sources.folder.settling import FileStability
from listener.sources.folder.tree import PART, examine_folder, examine_key, in_turns, told
from listener.sources.folder.watching import Changes, folder_changes
from manifests.error_groups import task_group
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
            inbox.report(self.name, Condition.problem(failure.known))
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
        async with task_group() as group:
            ended = await self._tell(inbox, Deliveries(inbox, self.name, group))
        raise ended

    async def _tell(self, inbox: Inbox, deliveries: Deliveries) -> OSError | RuntimeError:
        """Until the watch ends; why it did."""
        settling = FileStability()
        try:
            async with aclosing(folder_changes(self._root, polling=self._polling)) as found:
                async for changed in found:
                    if not self._begun:
                        self._begun = True
                        log.info("folder_watched", root=str(self._root), polling=self._polling)
                        inbox.report(self.name, Condition(True, f"watching {self._root}"))
                        inbox.gap(self.name, f"watching {self._bucket} has begun")
                    if changed:
                        await self._look_at(changed, settling, deliveries)
                    await self._finish(settling, deliveries)
        except (OSError, RuntimeError) as e:
            return e
        return OSError("the watch ended")

    async def _look_at(self, changed: Changes, settling: FileStability, deliveries: Deliveries) -> None:
        """Takes new and changed files to `settling`, and tells of removals."""
        told_of = await asyncio.to_thread(told, self._root, self._bucket, changed)
        # Polling tells the files of a new folder by itself.
        added = frozenset[str]() if self._polling else told_of.added
        for keys in told_of.parts:
            looks = await asyncio.to_thread(examine_folder, self._root, keys, added)
            now = asyncio.get_running_loop().time()
            removed: list[ObjectEvent] = []
            for seen in looks:
                if seen.stamp is not None:
                    settling.seen(seen.key, seen.stamp, now)
                elif seen.kind == "nothing":
                    settling.gone(seen.key)
                    removed.append(ObjectRemoved(self._bucket, seen.key, self.name))
            await deliveries.begin(removed)
            if len(told_of.parts) > 1:
                # Whatever is finished meanwhile is not to wait for the rest of thousands.
                await self._finish(settling, deliveries)

    async def _finish(self, settling: FileStability, deliveries: Deliveries) -> None:
        """Tells of the files that have stayed as they are for long enough."""
        loop = asyncio.get_running_loop()
        due = settling.due(loop.time())
        parts = await asyncio.to_thread(in_turns, self._bucket, due) if len(due) > PART else [due] if due else []
        for keys in parts:
            looks = await asyncio.to_thread(examine_key, self._root, keys)
            finished = settling.finished({seen.key: seen.stamp for seen in looks}, loop.time())
            await deliveries.begin([ObjectCreated(self._bucket, key, self.name) for key in finished])
