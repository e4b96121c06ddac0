"""Files as the folder store writes them, and what the operating system's errors mean."""

from __future__ import annotations

import errno
import os
import stat
import time
import uuid
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gpu_dispatch.transfer.beneath import PRIVATE, STAGING, PathEscapes, folder_at
from manifests.errors import GpuDropError, ObjectDenied, StoreDenied, StoreUnavailable, UnusableKey

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


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file under a name of its own in the open folder `at`; it may be moved or linked from there."""

    at: int
    name: str
    status: os.stat_result


@contextmanager
def new_file(root: Path, data: bytes) -> Generator[NewFile]:
    """A file holding `data`, on the disk; gone afterwards unless it was moved."""
    with staging(root) as at:
        name = f"{uuid.uuid4().hex}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(name, flags, 0o666, dir_fd=at), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                status = os.fstat(file.fileno())
            yield NewFile(at, name, status)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=at)


@contextmanager
def staging(root: Path) -> Generator[int]:
    """The folder, open, where files are made. Raises StoreDenied where something else lies in its place."""
    with ExitStack() as stack:
        try:
            at = stack.enter_context(folder_at(root, STAGING, make=True))
        except OSError as e:
            if e.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            path = root.joinpath(*STAGING)
            raise StoreDenied(f"{path} is no folder of gpudrop's.", hint="Remove it: gpudrop makes its own.") from e
        yield at


def check_makeable(root: Path, steps: Sequence[str]) -> None:
    """Raises what the system would say of a file that `steps` lead to; makes nothing."""
    folders = list(steps[:-1])
    while True:
        try:
            with folder_at(root, folders) as at:
                _check_names(steps[len(folders) :], at)
                if len(folders) == len(steps) - 1 and stat.S_ISDIR(_mode(steps[-1], at)):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), steps[-1])
                return
        except FileNotFoundError:
            if not folders:
                raise
            folders.pop()


def _check_names(names: Sequence[str], folder: int) -> None:
    longest = os.fpathconf(folder, "PC_NAME_MAX")
    for name in names:
        if len(os.fsencode(name)) > longest:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)


def _mode(name: str, folder: int) -> int:
    """0: nothing is there."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


def ignores_case(root: Path) -> bool:
    """Whether the file system of `root` takes a name in capitals for the same."""
    with staging(root), folder_at(root, ()) as at:
        try:
            capitals = os.stat(PRIVATE.upper(), dir_fd=at, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(capitals, os.stat(PRIVATE, dir_fd=at, follow_symlinks=False))


def remove_stale(root: Path) -> None:
    """Removes what a crash has left of `new_file`."""
    oldest = time.time() - STALE_S
    with staging(root) as at, os.scandir(at) as entries:
        for left in entries:
            with suppress(*GONE, IsADirectoryError):
                if left.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(left.name, dir_fd=at)


def os_error_translated(error: OSError, doing: str, root: Path) -> GpuDropError:
    if isinstance(error, PathEscapes):
        path = Path(error.filename)
        return ObjectDenied(
            f"{path.relative_to(root).as_posix()!r} is a link that leads out of the folder.",
            hint="Copy the file into the folder instead of linking to it.",
            where=path.name,
        )
    message = f"Could not {doing} in {root}: {error.strerror or error}."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreDenied(message, hint=f"Let the user this program runs as read and write {root}.")
    if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ELOOP):
        return UnusableKey(message, hint="Use a shorter and simpler name.")
    if error.errno in (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY):
        return UnusableKey(message, hint="A file and a folder cannot have the same name: rename one of them.")
    return StoreUnavailable(message, hint=_HINTS.get(error.errno or 0, "Check the disk."))
