"""Keys of a folder store and the files they name: the same characters, segment by segment, nothing encoded."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gpu_dispatch.transfer.beneath import PRIVATE, PathEscapes, folder_at, stat_beneath, steps_to
from listener.store import ObjectMeta, OddKey
from manifests.keys import check_key, key_problem

UNFINISHED = ("~", ".part", ".partial", ".crdownload", ".download", ".filepart", ".tmp", ".swp")
"""Endings that editors, browsers and copying programs give to files they have not finished."""


def is_ignored(key: str) -> bool:
    """Whether listings and watchers pass over `key`: hidden files and folders, files somebody is still writing."""
    return any(segment.startswith(".") for segment in key.split("/")) or key.lower().endswith(UNFINISHED)


def is_private(key: str) -> bool:
    return key.partition("/")[0].lower() == PRIVATE


def path_of(root: Path, key: str) -> Path:
    """The path `key` names below `root`, not yet looked at. Raises UnusableKey."""
    return root / check_key(key)


def real_key(root: Path, key: str) -> str:
    """The key of the file that `key` leads to, links followed, whether it exists or not. Raises LeadsOut."""
    return "/".join(steps_to(root, path_of(root, key)))


def file_meta_of(key: str, status: os.stat_result) -> ObjectMeta:
    """The inode, the nanosecond of the last change and the size stand for an ETag: any save gives another one."""
    return ObjectMeta(
        key=key,
        size=status.st_size,
        etag=f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}",
        last_modified=datetime.fromtimestamp(status.st_mtime, UTC),
    )


_Found = ObjectMeta | OddKey | tuple[str, ...]
"""An object, a key that cannot be used, or the steps to a folder."""


@dataclass(frozen=True, slots=True)
class FolderWalk:
    """The files below a resolved `root`, in the order of their names. Blocks: for use in a thread."""

    root: Path

    def objects(self, prefix: str) -> Iterator[ObjectMeta | OddKey]:
        """Every file whose key starts with `prefix`. A missing root raises FileNotFoundError."""
        folder = prefix.rpartition("/")[0]
        if prefix and (key_problem(prefix) or is_ignored(folder)):
            return
        start = steps_to(self.root, self.root / folder)
        if folder and not _is_folder(self.root, start):
            return
        # Depth first; a stack, for there is no limit to how deep folders go.
        pending = [self._entries(start, f"{folder}/" if folder else "", prefix)]
        while pending:
            for key, found in pending[-1]:
                if isinstance(found, ObjectMeta | OddKey):
                    yield found
                    continue
                try:
                    pending.append(self._entries(found, key + "/", prefix))
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as e:
                    yield OddKey(key + "/", f"is a folder that cannot be read ({e.strerror})")
                    continue
                break
            else:
                pending.pop()

    def _entries(self, steps: Sequence[str], folder: str, prefix: str) -> Iterator[tuple[str, _Found]]:
        """What lies in a folder, in order. All of it is looked at while the folder is open, not by its name."""
        found: list[tuple[str, _Found]] = []
        with folder_at(self.root, steps) as at, os.scandir(at) as entries:
            for entry in entries:
                key = folder + entry.name
                if is_ignored(entry.name) or not (key.startswith(prefix) or prefix.startswith(key + "/")):
                    continue
                if (look := self._look(key, entry, steps)) is not None:
                    found.append((key, look))
        found.sort(key=lambda item: item[0])
        return iter(found)

    def _look(self, key: str, entry: os.DirEntry[str], steps: Sequence[str]) -> _Found | None:
        """An object, a key that cannot be used, a folder to go into, or nothing to speak of."""
        if not _is_text(key):
            return OddKey(_shown(key), "is not UTF-8")
        if problem := key_problem(key):
            return OddKey(key, problem)
        try:
            if entry.is_dir(follow_symlinks=False):
                return (*steps, entry.name)
            if entry.is_symlink():
                return self._look_at_link(key, self.root.joinpath(*steps, entry.name))
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as e:
            return OddKey(key, f"cannot be looked at ({e.strerror})")
        return file_meta_of(key, status) if stat.S_ISREG(status.st_mode) else None

    def _look_at_link(self, key: str, path: Path) -> ObjectMeta | OddKey | None:
        try:
            status = stat_beneath(self.root, path)
        except PathEscapes:
            return OddKey(key, "is a link that leads out of the folder")
        if stat.S_ISDIR(status.st_mode):
            return OddKey(key, "is a link to a folder; only files are followed")
        return file_meta_of(key, status) if stat.S_ISREG(status.st_mode) else None


def _is_folder(root: Path, steps: Sequence[str]) -> bool:
    try:
        with folder_at(root, steps):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_text(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(key: str) -> str:
    return os.fsencode(key).decode("utf-8", "backslashreplace")
