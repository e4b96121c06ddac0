"""A state that an earlier version left elsewhere, moved to where it belongs: once, whole, and told.

Its files are copied, not renamed: whoever could write in the old folder may still hold them open. Where users drop
files it may have been planted, too: it is moved only if nobody but this user could do that, and without its secrets.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import sqlite3
import stat
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import structlog

from listener.configuration.state_place import FormerPlace
from listener.ledger.errors import at_the_start, sqlite_error
from listener.ledger.private_folder import DATABASES, FILES, LOCK, check_private, writers
from manifests.errors import ConfigError, StateError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener")

_ENGINE, _LEDGER = DATABASES
"""Moved in this order: until the ledger itself is there, nothing has been moved."""
_ENDS = ("-journal", "-wal", "")
_NEW = ".moving"
_NOT_OURS = "SELECT 1 FROM sqlite_master WHERE type IN ('trigger', 'view')"


def check_former(former: FormerPlace, folder: Path) -> None:
    """Raises StateError where somebody else could have made what lies there, or changed it."""
    try:
        check_private(former.folder)
        for path in (former.folder / name for name in DATABASES):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and (problem := writers(path, status, sticky=False)):
                raise StateError(f"{path} {problem}.")
    except StateError as e:
        before, now = shlex.quote(str(former.folder)), shlex.quote(str(folder))
        raise StateError(
            f"An earlier version's state lies in {former.folder}, but others may have put it there: {e}",
            hint=f"If it is this installation's, `mkdir -p {now} && mv {before}/* {now}/` moves it; else remove it.",
            where="state",
        ) from e


def move_state(former: FormerPlace, folder: Path) -> None:
    """Moves the state into `folder`, whose lock the caller holds. Cut off anywhere, it is begun anew, or was done.

    Raises ConfigError while another listener uses it, and StateError for what this user alone did not make.
    """
    check_former(former, folder)
    with _opened(former) as source, _locked(source, former.folder):
        for name in FILES - {LOCK}:
            (folder / name).unlink(missing_ok=True)
        for end in _ENDS:
            _copy(source, _ENGINE + end, folder / (_ENGINE + end), former.folder)
        for end in _ENDS:
            _copy(source, _LEDGER + end, folder / (_LEDGER + _NEW + end), former.folder)
        _without_secrets(folder / (_LEDGER + _NEW), former.folder / _LEDGER)
        (folder / (_LEDGER + _NEW)).replace(folder / _LEDGER)
        _sync(folder)
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


def _copy(source: int, name: str, target: Path, before: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=source)
    except FileNotFoundError:
        return
    except OSError as e:
        raise _not_ours(before / name, e.strerror or "it is a link") from e
    with os.fdopen(handle, "rb") as old:
        status = os.fstat(handle)
        _check_ours(status, before / name)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise _not_ours(before / name, "it is no file of its own")
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            shutil.copyfileobj(old, file, 2**20)
            file.flush()
            os.fsync(file.fileno())
    _sync(target.parent)


def _without_secrets(ledger: Path, before: Path) -> None:
    """Makes one file of `ledger` and what lies beside it, with no secret in it, nor anything that would act by itself.

    No earlier version that kept its state there had secrets, triggers or views.
    """
    try:
        with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode=DELETE")
            if db.execute(_NOT_OURS).fetchone():
                raise _not_ours(before, "it has triggers or views")
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'gpudrop_secrets'").fetchone():
                db.execute("DELETE FROM gpudrop_secrets")
    except sqlite3.Error as e:
        raise at_the_start(sqlite_error(e, f"The earlier ledger {before}")) from e


def _sync(folder: Path) -> None:
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
