"""Files as the folder store writes them, and what the operating system's errors mean."""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from manifests.errors import GpuDropError, StoreDenied, StoreUnavailable, UnusableKey

STALE_S = 86400.0
_FULL = "Free space on the disk."
_AWAY = "Check that the disk or share is mounted; it is tried again later."
_HINTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.ESTALE: _AWAY,
    errno.ENOTCONN: _AWAY,
    errno.EHOSTDOWN: _AWAY,
    errno.ENODEV: _AWAY,
}
GONE = (FileNotFoundError, NotADirectoryError)


@contextmanager
def new_file(folder: Path, data: bytes) -> Generator[tuple[Path, os.stat_result]]:
    """A file in `folder` holding `data`, on the disk, under a name of its own; gone afterwards unless it was moved."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uuid.uuid4().hex}.part"
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            status = os.fstat(file.fileno())
        yield path, status
    finally:
        path.unlink(missing_ok=True)


def remove_stale(folder: Path) -> None:
    """Removes what a crash has left of `new_file`."""
    oldest = time.time() - STALE_S
    for left in folder.iterdir():
        with suppress(*GONE, IsADirectoryError):
            if left.lstat().st_mtime < oldest:
                left.unlink()


def sync_folder(folder: Path) -> None:
    """Makes a rename outlive a power cut; where folders cannot be opened (Windows) the rename itself must do."""
    with suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def translated(error: OSError, doing: str, root: Path) -> GpuDropError:
    message = f"Could not {doing} in {root}: {error.strerror or error}."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreDenied(message, hint=f"Let the user this program runs as read and write {root}.")
    if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ELOOP):
        return UnusableKey(message, hint="Use a shorter and simpler name.")
    if error.errno in (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY):
        return UnusableKey(message, hint="A file and a folder cannot have the same name: rename one of them.")
    return StoreUnavailable(message, hint=_HINTS.get(error.errno or 0, "Check the disk."))
