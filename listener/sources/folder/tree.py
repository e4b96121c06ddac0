"""What a look at the folder store's disk says about keys that were told of. These functions block."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpu_dispatch.transfer.beneath import folder_at, look_at, steps_to
from listener.sources.folder.settling import Stamp
from listener.store import ObjectMeta
from listener.stores.folder_paths import Walk, is_ignored
from manifests.keys import key_problem


@dataclass(frozen=True, slots=True)
class Look:
    """What lies under `key` now; `stamp` only for a file."""

    key: str
    kind: Literal["file", "folder", "nothing"]
    stamp: Stamp | None = None


def key_of(root: Path, path: str) -> str | None:
    """The key of `path`; None for what a listing passes over too: hidden, unfinished and unusable names."""
    try:
        key = Path(path).relative_to(root).as_posix()
    except ValueError:
        return None
    return None if key == "." or is_ignored(key) or key_problem(key) else key


def look(root: Path, keys: Iterable[str]) -> list[Look]:
    """In the order of `keys`. Those of one folder are looked at from there: of thousands, each costs one call."""
    every = list(keys)
    folders: dict[str, list[str]] = {}
    for key in every:
        folder, _, name = key.rpartition("/")
        folders.setdefault(folder, []).append(name)
    found: dict[str, Look] = {}
    for folder, names in folders.items():
        found.update(_look_in(root, folder, names) if len(names) > 1 else {})
    return [found.get(key) or _look(root, key) for key in every]


def _look_in(root: Path, folder: str, names: Iterable[str]) -> Iterator[tuple[str, Look]]:
    """What can be told without following a link."""
    try:
        with folder_at(root, steps_to(root, root / folder)) as at:
            for name in names:
                key = f"{folder}/{name}" if folder else name
                try:
                    status = os.stat(name, dir_fd=at, follow_symlinks=False)
                except OSError:
                    yield key, Look(key, "nothing")
                    continue
                if not stat.S_ISLNK(status.st_mode):
                    yield key, _seen(key, status)
    except OSError:
        # One by one they tell why.
        return


def look_around(root: Path, keys: Iterable[str], added: set[str]) -> list[Look]:
    """At `keys`, and into every folder among the `added`: one that is moved here is told of without its files."""
    looks = look(root, keys)
    inner = [seen for one in looks if one.kind == "folder" and one.key in added for seen in _below(root, one.key)]
    return looks + inner


def _below(root: Path, key: str) -> Iterator[Look]:
    try:
        for item in Walk(root).objects(key + "/"):
            if isinstance(item, ObjectMeta):
                yield _look(root, item.key)
    except OSError:
        # The folder vanished, or may not be read: then it holds no drops.
        return


def _look(root: Path, key: str) -> Look:
    try:
        status = look_at(root, root / key)
    except OSError:
        return Look(key, "nothing")
    return _seen(key, status)


def _seen(key: str, status: os.stat_result) -> Look:
    if stat.S_ISREG(status.st_mode):
        return Look(key, "file", Stamp(status.st_size, status.st_mtime_ns))
    return Look(key, "folder" if stat.S_ISDIR(status.st_mode) else "nothing")
