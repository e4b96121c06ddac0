"""Where this installation keeps what it knows, and the lock that keeps a second listener off the same files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from listener.configuration.config import Config, FolderStoreConfig
from listener.configuration.drop_lock import sole_use
from listener.configuration.state_move import check_former, move_state
from listener.configuration.state_place import StatePlace, is_on_server, place_of, was_used
from listener.ledger.files import folder_error, make_folder
from listener.ledger.private_folder import LOCK, make_private_file
from manifests.errors import ConfigError, StateError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener")


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Database URLs; `folder` is where the lock and SQLite's files lie, None on PostgreSQL."""

    engine_url: str
    ledger_url: str
    folder: Path | None

    @property
    def shared(self) -> bool:
        """Whether several listeners may use it."""
        return self.folder is None


def state_of(config: Config) -> StateFolder:
    """For every command but the listener. Raises ConfigError, and StateError while it has not been moved yet."""
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
    """Where the state lies on this machine, or will; None on PostgreSQL. Raises ConfigError."""
    return None if _on_postgresql(config) else place_of(config).folder


@contextmanager
def held_state(config: Config) -> Generator[StateFolder]:
    """The state, for this process alone unless it may be shared; first moved from where an earlier version kept it.

    Raises ConfigError when another listener has it, StateError when it is no use or not safe.
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
