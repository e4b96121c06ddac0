"""Where an installation keeps its state: never where users drop files, for whoever writes it decides what is done."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from listener.configuration.config import Config, FolderStoreConfig
from listener.ledger.private_folder import DATABASES, SECRET, check_private
from manifests.errors import ConfigError, StateError

OWN = ".gpudrop"


@dataclass(frozen=True, slots=True)
class FormerPlace:
    """Where an earlier version kept the state by default: `parts` below `base`, which is the operator's choice."""

    base: Path
    parts: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return self.base.joinpath(*self.parts)


@dataclass(frozen=True, slots=True)
class StatePlace:
    """`former` holds a state that has to be moved to `folder` before anybody uses it; None: there is none."""

    folder: Path
    former: FormerPlace | None = None


def place_of(config: Config) -> StatePlace:
    """Raises ConfigError for a `state` inside the drop folder, and where no place can be found."""
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
    """Whether a listener has used it: commands that only look make a ledger, and the ledger is moved last."""
    return all(os.path.lexists(folder / name) for name in DATABASES)


def was_used(folder: Path) -> bool:
    """Whether a listener of this version, or of one that kept its state there, has used `folder`, whatever was lost."""
    return holds_state(folder) or os.path.lexists(folder / SECRET)


def _default(config: Config) -> Path:
    """Beside config.yaml, or this user's own folder for such things where that cannot be."""
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
    """By what the folders are, not by their names: where letters' case does not count one has several."""
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
