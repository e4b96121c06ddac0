"""The folder of the state, never inside the drop folder, and the move of an earlier version's state to it.

Files are copied, not renamed: users of the old folder may still hold them open. A state in the drop folder may have
been planted: it is moved only if this user alone could write it, and without its secrets.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import sqlite3
import stat
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from listener.config.config import Config, FolderStoreConfig
from listener.ledger.errors import as_startup_error, sqlite_error
from listener.ledger.files import DATABASES, FILES, LOCK, SECRET, check_private, writers
from manifests.errors import ConfigError, StateError

OWN = ".gpudrop"


@dataclass(frozen=True, slots=True)
class FormerPlace:
    """The default folder of the state in an earlier version."""

    base: Path
    """The operator's choice."""
    parts: tuple[str, ...]
    """Names of folders below `base`."""

    @property
    def folder(self) -> Path:
        return self.base.joinpath(*self.parts)


@dataclass(frozen=True, slots=True)
class StatePlace:
    """The folder of the state."""

    folder: Path
    former: FormerPlace | None = None
    """Holds an earlier version's state, which has to be moved to `folder` before use; None: there is none."""


def place_of(config: Config) -> StatePlace:
    """Finds the folder of the state. Raises ConfigError for one inside the drop folder, and when there is none."""
    if config.state:
        folder = Path(config.state).expanduser().absolute()
        if _is_in_drop(folder, config):
            raise _in_drop(folder, config)
        return StatePlace(folder)
    folder, former = _default(config), _former(config)
    return StatePlace(folder, former if holds_state(former.folder) and not _is_same(former.folder, folder) else None)


def is_on_server(config: Config) -> bool:
    """Whether the state lies in PostgreSQL."""
    return (config.state or "").startswith(("postgresql://", "postgres://"))


def holds_state(folder: Path) -> bool:
    """Whether a listener has used `folder`: other commands make a ledger alone, and the ledger is moved last."""
    return all(os.path.lexists(folder / name) for name in DATABASES)


def was_used(folder: Path) -> bool:
    """Whether a listener has used `folder`, even if files of it were lost."""
    return holds_state(folder) or os.path.lexists(folder / SECRET)


def _default(config: Config) -> Path:
    """Returns the folder beside config.yaml, or one of this user's where that is impossible."""
    beside = config.file.parent / OWN if config.file else None
    if beside is not None and _is_in_drop(beside, config):
        beside = None
    if beside is not None and os.path.lexists(beside):
        return beside
    elsewhere = _of_this_user(config)
    if elsewhere is not None and _is_in_drop(elsewhere, config):
        elsewhere = None
    if beside is None or (elsewhere is not None and was_used(elsewhere)):
        return elsewhere or _nowhere()
    if os.access(beside.parent, os.W_OK | os.X_OK) and _is_private(beside):
        return beside
    return elsewhere or _nowhere()


def _of_this_user(config: Config) -> Path | None:
    try:
        home = Path.home()
    except RuntimeError:
        home = None
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    if given.is_absolute():
        base = given
    elif home is None:
        return None
    else:
        base = home / ("Library/Application Support" if sys.platform == "darwin" else ".local/state")
    store = config.store
    known = (
        os.path.realpath(store.root) if isinstance(store, FolderStoreConfig) else f"{store.endpoint} {store.buckets}"
    )
    return base / "gpudrop" / hashlib.sha256(known.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _former(config: Config) -> FormerPlace:
    if isinstance(config.store, FolderStoreConfig):
        return FormerPlace(Path(os.path.realpath(config.store.root)), (OWN, "state"))
    return FormerPlace(Path.cwd(), (OWN,))


def _is_in_drop(folder: Path, config: Config) -> bool:
    """Compares folders by identity, because a folder has several names where case is ignored."""
    if not isinstance(config.store, FolderStoreConfig):
        return False
    real, root = Path(os.path.realpath(folder)), Path(os.path.realpath(config.store.root))
    return real.is_relative_to(root) or any(_is_same(each, root) for each in (real, *real.parents))


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one == other


def _is_private(folder: Path) -> bool:
    try:
        check_private(folder)
    except StateError:
        return False
    return True


def _in_drop(folder: Path, config: Config) -> ConfigError:
    if folder == _former(config).folder:
        hint = "Remove `state` from config.yaml: it lies beside that file by default, and is moved there."
    else:
        hint = f"Stop gpudrop, move {folder} out of the drop folder, and name its new place as `state`."
    return ConfigError(
        f"The state folder {folder} lies inside the drop folder, where users may write.", hint=hint, where="state"
    )


def _nowhere() -> Path:
    raise ConfigError(
        "There is no folder for the state: config.yaml's cannot be used, and this user has no home outside the drop.",
        hint="Name a folder as `state` in config.yaml that only this user may write.",
        where="state",
    )


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener")

_ENGINE, _LEDGER = DATABASES
"""Moved in this order: the move is done once the ledger itself is there."""
_ENDS = ("-journal", "-wal", "")
_NEW = ".moving"
_NOT_OURS = "SELECT 1 FROM sqlite_master WHERE type IN ('trigger', 'view')"


def check_former(former: FormerPlace, folder: Path) -> None:
    """Raises StateError where another user could have made or changed the state."""
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
    """Moves the state into `folder`, whose lock the caller holds. After an interruption it starts over, or was done.

    Raises ConfigError while another listener uses it, and StateError for files that another user could have made.
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
    """Opens the old folder, following no link below its base."""
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
    """Merges `ledger` and its journals, deletes secrets, and refuses triggers and views: earlier versions had none."""
    try:
        with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode=DELETE")
            if db.execute(_NOT_OURS).fetchone():
                raise _not_ours(before, "it has triggers or views")
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'gpudrop_secrets'").fetchone():
                db.execute("DELETE FROM gpudrop_secrets")
    except sqlite3.Error as e:
        raise as_startup_error(sqlite_error(e, f"The earlier ledger {before}")) from e


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
