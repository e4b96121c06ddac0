"""The state of an installation, and the locks that keep a second listener off it and off a drop folder."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from gpu_dispatch.transfer.safe_paths import PRIVATE
from listener.config.config import Config, FolderStoreConfig
from listener.config.state_place import StatePlace, check_former, is_on_server, move_state, place_of, was_used
from listener.ledger.files import LOCK, folder_error, make_folder, make_private_file
from manifests.errors import ConfigError, StateError

_NAME = "lock"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})
"""Errors of file systems without locks."""


@contextmanager
def sole_use(root: Path) -> Generator[None]:
    """Locks the drop folder for this process; `root` is resolved. A missing root is ignored.

    Raises ConfigError while another listener has it, and for a lock file that gpudrop did not make.
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


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener")


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Where the state is."""

    engine_url: str
    """Database URL, as `ledger_url`."""
    ledger_url: str
    folder: Path | None
    """Of the lock and SQLite's files; None on PostgreSQL."""

    @property
    def shared(self) -> bool:
        """Whether several listeners may use it."""
        return self.folder is None


def state_of(config: Config) -> StateFolder:
    """Returns the state for commands other than `run`. Raises ConfigError, and StateError until it has been moved."""
    if state := _on_postgresql(config):
        return state
    place = place_of(config)
    if place.former and not was_used(place.folder):
        check_former(place.former, place.folder)
        raise StateError(
            f"The state lies where an earlier version kept it, in {place.former.folder}.",
            hint=f"Start `gpudrop run`: it moves the state to {place.folder}.",
            where="state",
        )
    return _in_folder(place.folder)


def state_folder(config: Config) -> Path | None:
    """Returns the state's folder, existing or not; None on PostgreSQL. Raises ConfigError."""
    return None if _on_postgresql(config) else place_of(config).folder


@contextmanager
def held_state(config: Config) -> Generator[StateFolder]:
    """Holds the state, for this process alone unless it may be shared; an earlier version's is moved first.

    Raises ConfigError while another listener has it, StateError when it is unusable or not safe.
    """
    if state := _on_postgresql(config):
        yield state
        return
    place = place_of(config)
    make_folder(place.folder)
    with ExitStack() as locks:
        locks.enter_context(_locked(place.folder))
        if isinstance(config.store, FolderStoreConfig):
            locks.enter_context(sole_use(Path(os.path.realpath(config.store.root))))
        _settle(place)
        yield _in_folder(place.folder)


def _settle(place: StatePlace) -> None:
    if place.former is None:
        return
    if was_used(place.folder):
        hint = "It is not used. Remove it, unless another configuration needs it: that one needs a `state` of its own."
        log.warning("state_left_behind", folder=str(place.former.folder), used=str(place.folder), hint=hint)
        return
    try:
        move_state(place.former, place.folder)
    except OSError as e:
        raise folder_error(e, place.folder) from e


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    path = folder / LOCK
    try:
        make_private_file(path)
        lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as e:
        raise folder_error(e, folder) from e
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as e:
        raise ConfigError(
            f"Another gpudrop is running on {folder}.",
            hint="Stop it first; for several listeners, set `state` to a PostgreSQL URL.",
            where="state",
        ) from e
    finally:
        os.close(lock)


def _on_postgresql(config: Config) -> StateFolder | None:
    if not is_on_server(config):
        return None
    rest = (config.state or "").partition("://")[2]
    return StateFolder(engine_url=f"postgresql://{rest}", ledger_url=f"postgresql+psycopg://{rest}", folder=None)


def _in_folder(folder: Path) -> StateFolder:
    return StateFolder(f"sqlite:///{folder / 'engine.sqlite'}", f"sqlite:///{folder / 'ledger.sqlite'}", folder)
