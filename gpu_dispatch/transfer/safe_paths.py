"""Reaches files below a folder that others may change at any moment, without leaving that folder.

Links are resolved first, and their target has to lie below the folder. The path is then walked from the folder's
descriptor, one name at a time, without following links, so that a link made after the check has no effect. Files are
read, written and removed by descriptor alone.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PRIVATE = ".gpudrop"
"""The program's own folder below the root: no user's path reaches a file in it, by any name."""
STAGING = (PRIVATE, "tmp")
"""The folder in which files are completed before they appear."""

_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PathEscapes(OSError):
    """A path leads out of the folder, or into the program's own."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EXDEV, "it leads out of the folder", str(path))


def steps_to(root: Path, path: Path) -> tuple[str, ...]:
    """Returns the names from `root` (resolved) to the target of `path`, which need not exist. Raises PathEscapes."""
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(root):
        raise PathEscapes(path)
    steps = real.relative_to(root).parts
    if steps and steps[0].lower() == PRIVATE:
        raise PathEscapes(path)
    return steps


@contextmanager
def folder_at(root: Path, steps: Sequence[str], *, make: bool = False) -> Generator[int]:
    """Yields a descriptor of the folder at `steps`; `make` makes missing ones. Raises PathEscapes and OSError.

    Every step has to be a folder, not a link.
    """
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        own = _own(handle) if tuple(steps[: len(STAGING)]) != STAGING else None
        for step in steps:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(step, dir_fd=handle)
            inner = os.open(step, _STEP, dir_fd=handle)
            os.close(handle)
            handle = inner
            # A folder has several names where case does not count, or where names have a short form.
            if own is not None and os.path.samestat(os.fstat(handle), own):
                raise PathEscapes(root.joinpath(*steps))
        yield handle
    finally:
        os.close(handle)


def stat_beneath(root: Path, path: Path) -> os.stat_result:
    """Returns the status of the target of `path`. Raises PathEscapes and OSError."""
    *folders, name = steps_to(root, path) or (".",)
    with folder_at(root, folders) as at:
        return _lstat(name, at)


def open_file(root: Path, path: Path) -> int:
    """Returns a descriptor to read the target of `path`. Raises PathEscapes, and FileNotFoundError if it is no file.

    The target is checked before it is opened: opening a pipe or a device may have effects.
    """
    *folders, name = steps_to(root, path) or (".",)
    with folder_at(root, folders) as at:
        if stat.S_ISREG(_lstat(name, at).st_mode):
            handle = os.open(name, _READ, dir_fd=at)
            if stat.S_ISREG(os.fstat(handle).st_mode):
                return handle
            os.close(handle)
    raise FileNotFoundError(errno.ENOENT, "it is no file", str(path))


def _lstat(name: str, at: int) -> os.stat_result:
    status = os.stat(name, dir_fd=at, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        # The link leads to itself, or was made after the links were resolved.
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return status


def _own(root: int) -> os.stat_result | None:
    try:
        return os.stat(PRIVATE, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return None
