"""A state that an earlier version left elsewhere, moved to where it belongs: once, whole, and told.

Its files are copied, not renamed: whoever could write in the old folder may still hold them open.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from listener.configuration.state_place import FormerPlace
from listener.ledger.private_folder import DATABASES, FILES, LOCK
from manifests.errors import ConfigError, StateError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener")

_MOVED = tuple(name + end for name in DATABASES for end in ("-journal", "-wal", ""))
"""In this order: until the ledger itself is there, nothing has been moved."""
_NEW = ".moving"


def move_state(former: FormerPlace, folder: Path) -> None:
    """Moves the state into `folder`, whose lock the caller holds. Cut off anywhere, it is begun anew, or was done.

    Raises ConfigError while another listener uses it, and StateError for what this user did not make.
    """
    with _opened(former) as source, _locked(source, former.folder):
        for name in FILES - {LOCK}:
            (folder / name).unlink(missing_ok=True)
        for name in _MOVED:
            _copy(source, name, folder, former.folder)
        for name in FILES:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=source)
    with suppress(OSError):
        former.folder.rmdir()
    log.warning("state_moved", before=str(former.folder), now=str(folder))


@contextmanager
def _opened(former: FormerPlace) -> Generator[int]:
    """The old folder itself, no link in its place."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    handle = os.open(former.base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in former.parts:
            try:
                inner = os.open(part, flags, dir_fd=handle)
            except OSError as e:
                raise _not_ours(former.folder, e.strerror or "it is a link") from e
            os.close(handle)
            handle = inner
            _check_ours(os.fstat(handle), former.folder)
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _locked(source: int, folder: Path) -> Generator[None]:
    try:
        handle = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600, dir_fd=source)
    except OSError as e:
        raise _not_ours(folder / LOCK, e.strerror or "it is a link") from e
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as e:
        raise ConfigError(
            f"Another gpudrop, of an earlier version, is running on {folder}.", hint="Stop it first.", where="state"
        ) from e
    finally:
        os.close(handle)


def _copy(source: int, name: str, folder: Path, before: Path) -> None:
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=source)
    except FileNotFoundError:
        return
    except OSError as e:
        raise _not_ours(before / name, e.strerror or "it is a link") from e
    new = folder / (name + _NEW)
    with os.fdopen(handle, "rb") as old:
        status = os.fstat(handle)
        _check_ours(status, before / name)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise _not_ours(before / name, "it is no file of its own")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            shutil.copyfileobj(old, file, 2**20)
            file.flush()
            os.fsync(file.fileno())
    new.replace(folder / name)
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _check_ours(status: os.stat_result, path: Path) -> None:
    if status.st_uid != os.geteuid():
        raise _not_ours(path, f"it belongs to user {status.st_uid}")


def _not_ours(path: Path, why: str) -> StateError:
    return StateError(
        f"The state of an earlier version cannot be moved: {path} is not what gpudrop left there ({why}).",
        hint="Look who made it. Move its folder away to start without it; what is running would then be done again.",
        where="state",
    )
