"""The state of keys on a folder store's disk, and when a file that is being written counts as stable."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from watchfiles import Change

from gpu_dispatch.fair_queue import FairQueue
from gpu_dispatch.transfer.safe_paths import folder_at, stat_beneath, steps_to
from listener.fairness import share_of, share_path
from listener.stores.base import ObjectMeta
from listener.stores.folder_files import FolderWalk, is_ignored
from manifests.keys import key_problem

STABLE_S = 0.4
"""Seconds for which a file must stay unchanged."""

GROWING_SETTLE_S = 2.0
"""The same for a file that was seen to change or is still empty, because its writer may pause."""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What changes while a file is written."""

    size: int
    """Bytes."""
    mtime_ns: int
    """Nanoseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class _Watched:
    stamp: FileStamp
    since: float
    settle_s: float


class FileStability:
    """Keys whose files may still be written. Times are seconds of one monotonic clock, given by the caller.

    It decides from observations and their times, without a clock. A listing of a folder store has `settle_s` for the
    same reason.
    """

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}

    def __len__(self) -> int:
        return len(self._watched)

    def seen(self, key: str, stamp: FileStamp, now: float) -> None:
        before = self._watched.get(key)
        if before is not None and before.stamp == stamp:
            return
        slow = before is not None or stamp.size == 0
        self._watched[key] = _Watched(stamp, now, GROWING_SETTLE_S if slow else STABLE_S)

    def gone(self, key: str) -> None:
        self._watched.pop(key, None)

    def due(self, now: float) -> list[str]:
        """Returns keys to examine again; the caller passes their current stamps to `finished`."""
        return [key for key, w in self._watched.items() if now - w.since >= w.settle_s]

    def finished(self, looks: Mapping[str, FileStamp | None], now: float) -> list[str]:
        """Returns the due keys that stayed unchanged; forgets these and the vanished (None)."""
        done: list[str] = []
        for key, stamp in looks.items():
            watched = self._watched.get(key)
            if watched is None:
                continue
            if stamp is None:
                self.gone(key)
            elif stamp == watched.stamp:
                self.gone(key)
                done.append(key)
            else:
                self.seen(key, stamp, now)
        return done


PART = 500
"""Keys that are examined and delivered together; it bounds how long the next ones wait."""


@dataclass(frozen=True, slots=True)
class FileSnapshot:
    """What lies at `key` now."""

    key: str
    kind: Literal["file", "folder", "nothing"]
    stamp: FileStamp | None = None
    """None unless it is a file."""


@dataclass(frozen=True, slots=True)
class ChangedKeys:
    """Keys that changed."""

    parts: tuple[tuple[str, ...], ...]
    """Folders take turns in them: a few keys of each come before thousands of one."""
    added: frozenset[str]


def changed_keys(root: Path, bucket: str, changed: Iterable[tuple[Change, str]]) -> ChangedKeys:
    """Returns the keys that the watch reported. For use on a thread: thousands of paths take long."""
    changes = [(change, key) for change, path in changed if (key := key_of(root, path))]
    keys = sorted({key for _, key in changes})
    return ChangedKeys(in_turns(bucket, keys), frozenset(key for change, key in changes if change is Change.added))


def in_turns(bucket: str, keys: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Splits `keys` into parts of at most PART in which folders take turns. For use on a thread when they are many."""
    if len(keys) <= PART:
        return (tuple(keys),) if keys else ()
    queue: FairQueue[str] = FairQueue()
    for key in keys:
        queue.push(share_path(share_of(bucket, key)), key)
    ordered = [queue.pop() for _ in keys]
    return tuple(tuple(ordered[i : i + PART]) for i in range(0, len(ordered), PART))


def key_of(root: Path, path: str) -> str | None:
    """Returns the key of `path`; None for hidden, unfinished and unusable names, which a listing also skips."""
    key = path.removeprefix(f"{root}".rstrip("/") + "/")
    return None if key == path or is_ignored(key) or key_problem(key) else key


def examine_keys(root: Path, keys: Iterable[str]) -> list[FileSnapshot]:
    """Examines `keys`, in their order. Several keys of one folder cost one call each, relative to that folder."""
    every = list(keys)
    folders: dict[str, list[str]] = {}
    for key in every:
        folder, _, name = key.rpartition("/")
        folders.setdefault(folder, []).append(name)
    found: dict[str, FileSnapshot] = {}
    for folder, names in folders.items():
        found.update(_examine_in(root, folder, names) if len(names) > 1 else {})
    return [found.get(key) or _examine(root, key) for key in every]


def _examine_in(root: Path, folder: str, names: Iterable[str]) -> Iterator[tuple[str, FileSnapshot]]:
    """Yields what can be determined without following a link."""
    try:
        with folder_at(root, steps_to(root, root / folder)) as at:
            for name in names:
                key = f"{folder}/{name}" if folder else name
                try:
                    status = os.stat(name, dir_fd=at, follow_symlinks=False)
                except OSError:
                    yield key, FileSnapshot(key, "nothing")
                    continue
                if not stat.S_ISLNK(status.st_mode):
                    yield key, _seen(key, status)
    except OSError:
        # The caller examines each key by itself then.
        return


def examine_with_new_folders(root: Path, keys: Iterable[str], added: Set[str]) -> list[FileSnapshot]:
    """Examines `keys` and the files in every `added` folder: the watch reports a moved-in folder without its files."""
    looks = examine_keys(root, keys)
    inner = [seen for one in looks if one.kind == "folder" and one.key in added for seen in _below(root, one.key)]
    return looks + inner


def _below(root: Path, key: str) -> Iterator[FileSnapshot]:
    try:
        for item in FolderWalk(root).objects(key + "/"):
            if isinstance(item, ObjectMeta):
                yield _examine(root, item.key)
    except OSError:
        # The folder vanished or may not be read.
        return


def _examine(root: Path, key: str) -> FileSnapshot:
    try:
        status = stat_beneath(root, root / key)
    except OSError:
        return FileSnapshot(key, "nothing")
    return _seen(key, status)


def _seen(key: str, status: os.stat_result) -> FileSnapshot:
    if stat.S_ISREG(status.st_mode):
        return FileSnapshot(key, "file", FileStamp(status.st_size, status.st_mtime_ns))
    return FileSnapshot(key, "folder" if stat.S_ISDIR(status.st_mode) else "nothing")
