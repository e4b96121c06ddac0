"""Files below a folder that others may change, reached step by step: nobody is led out of it, at whatever moment.

Links are resolved first, and what they lead to has to lie below the folder. The way there is then walked from the
folder's own descriptor, one name after the other, and no link is followed any more: whoever puts one in the way after
the look finds that it is not taken. What is read, written and removed is reached by descriptor alone.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PRIVATE = ".gpudrop"
"""The folder below the root that belongs to this program: no file of a user's is reached in it, by whatever name."""
STAGING = (PRIVATE, "tmp")
"""Where files are made whole before they appear."""

_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PathEscapes(OSError):
    """A path leads out of the folder, or into what is this program's own."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EXDEV, "it leads out of the folder", str(path))


def steps_to(root: Path, path: Path) -> tuple[str, ...]:
    """The names from `root`, which is resolved, to what `path` leads to, whether it exists or not. Raises LeadsOut."""
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(root):
        raise PathEscapes(path)
    steps = real.relative_to(root).parts
    if steps and steps[0].lower() == PRIVATE:
        raise PathEscapes(path)
    return steps


@contextmanager
def folder_at(root: Path, steps: Sequence[str], *, make: bool = False) -> Generator[int]:
    """A descriptor of the folder that `steps` lead to, each a folder itself; `make` makes those that are missing.

    Raises LeadsOut, and what the system says.
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
            # Where letters' case does not count, or names have a short form, a folder has more names than one.
            if own is not None and os.path.samestat(os.fstat(handle), own):
                raise PathEscapes(root.joinpath(*steps))
        yield handle
    finally:
        os.close(handle)


def stat_beneath(root: Path, path: Path) -> os.stat_result:
    """What `path` leads to. Raises LeadsOut, and what the system says."""
    *folders, name = steps_to(root, path) or (".",)
    with folder_at(root, folders) as at:
        return _look(name, at)


def open_file(root: Path, path: Path) -> int:
    """A descriptor to read the file that `path` leads to. Raises LeadsOut, and FileNotFoundError where there is none.

    Looked at before it is opened: opening a pipe or a device may have effects.
    """
    *folders, name = steps_to(root, path) or (".",)
    with folder_at(root, folders) as at:
        if stat.S_ISREG(_look(name, at).st_mode):
            handle = os.open(name, _READ, dir_fd=at)
            if stat.S_ISREG(os.fstat(handle).st_mode):
                return handle
            os.close(handle)
    raise FileNotFoundError(errno.ENOENT, "it is no file", str(path))


def _look(name: str, at: int) -> os.stat_result:
    status = os.stat(name, dir_fd=at, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        # It leads to itself, or came there after the links were resolved.
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return status


def _own(root: int) -> os.stat_result | None:
    try:
        return os.stat(PRIVATE, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return None
