"""Where this installation keeps what it knows, and the lock that keeps a second listener off the same files."""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from listener.configuration.config import Config, FolderStoreConfig
from listener.ledger.files import folder_error, make_folder
from manifests.errors import ConfigError


@dataclass(frozen=True, slots=True)
class State:
    """Database URLs; `folder` is where the lock and SQLite's files lie, None on PostgreSQL."""

    engine_url: str
    ledger_url: str
    folder: Path | None

    @property
    def shared(self) -> bool:
        """Whether several listeners may use it."""
        return self.folder is None


def state_of(config: Config) -> State:
    where = config.state
    if where and where.startswith(("postgresql://", "postgres://")):
        rest = where.partition("://")[2]
        return State(engine_url=f"postgresql://{rest}", ledger_url=f"postgresql+psycopg://{rest}", folder=None)
    if where:
        folder = Path(where).expanduser()
    elif isinstance(config.store, FolderStoreConfig):
        folder = config.store.root / ".gpudrop" / "state"
    else:
        folder = Path(".gpudrop")
    folder = folder.absolute()
    return State(f"sqlite:///{folder / 'engine.sqlite'}", f"sqlite:///{folder / 'ledger.sqlite'}", folder)


@contextmanager
def only_one(state: State) -> Generator[None]:
    """Holds the state for this process. Raises ConfigError when another one has it, StateError when it is no use."""
    if state.folder is None:
        yield
        return
    make_folder(state.folder)
    try:
        file = (state.folder / "lock").open("a")
    except OSError as e:
        raise folder_error(e, state.folder) from e
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise ConfigError(
                f"Another gpudrop is running on {state.folder}.",
                hint="Stop it first; for several listeners, set `state` to a PostgreSQL URL.",
                where="state",
            ) from e
        yield
