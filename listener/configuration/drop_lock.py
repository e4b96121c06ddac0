"""One listener on a drop folder, wherever its state lies: two with a state each would both do what is dropped."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpu_dispatch.transfer.beneath import PRIVATE
from manifests.errors import ConfigError

_NAME = "lock"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})
"""What a file system says that has none."""


@contextmanager
def sole_use(root: Path) -> Generator[None]:
    """Holds the drop folder for this process; `root` is resolved. A root that is missing is no matter of this.

    Raises ConfigError while another listener has it, and for what somebody has put in the lock's place.
    """
    if not root.is_dir():
        yield
        return
    path = root / PRIVATE / _NAME
    try:
        handle = _opened(root)
    except OSError as e:
        raise _unusable(path, e.strerror or "it cannot be opened") from e
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _unusable(path, "it is no file")
        _lock(handle, root)
        yield
    finally:
        os.close(handle)


def _opened(root: Path) -> int:
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(FileExistsError):
            os.mkdir(PRIVATE, dir_fd=top)
        folder = os.open(PRIVATE, _FOLDER, dir_fd=top)
    finally:
        os.close(top)
    try:
        return os.open(_NAME, _FILE, 0o600, dir_fd=folder)
    finally:
        os.close(folder)


def _lock(handle: int, root: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        raise ConfigError(
            f"Another gpudrop is running on the drop folder {root}.",
            hint="Stop it first; for several listeners, set `state` to one PostgreSQL URL for all.",
            where="store.root",
        ) from e
    except OSError as e:
        if e.errno not in _NO_LOCKS:
            raise _unusable(root / PRIVATE / _NAME, e.strerror or "it cannot be locked") from e


def _unusable(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{path} is not what gpudrop left there ({why}).",
        hint="Look who made it, and remove it; this program's user has to be able to write there.",
        where="store.root",
    )
