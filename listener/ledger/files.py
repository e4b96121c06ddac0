"""The state's folder and the SQLite files in it: made, and tried before anything depends on them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from listener.ledger.errors import at_the_start, sqlite_error
from listener.ledger.private_folder import make_private_file, make_private_folder
from manifests.errors import StateError


def make_folder(folder: Path) -> None:
    """Makes the state's folder where it is missing. Raises StateError, also where others could write there."""
    try:
        make_private_folder(folder)
    except OSError as e:
        raise folder_error(e, folder) from e


def make_file(path: Path) -> None:
    """Makes the file of a database in the state's folder where it is missing. Raises StateError."""
    make_folder(path.parent)
    try:
        make_private_file(path)
    except OSError as e:
        raise folder_error(e, path.parent) from e


def folder_error(error: OSError, folder: Path) -> StateError:
    """Why a file cannot be had in the state's folder, or the folder itself."""
    return StateError(
        f"The state folder {folder} cannot be used: {error.strerror or error}.",
        hint="Name another one as `state` in config.yaml, or make this one a folder that this program may write.",
        where="state",
    )


def prepare_sqlite(url: str, name: str) -> None:
    """Makes the file of a SQLite URL ready, in WAL: twice the throughput, and readers beside the writer.

    A write is tried, as to begin a transaction may succeed where none can be made. `name` is what the file is called.
    Raises StateError for a file that cannot be read and written. Other URLs are left alone.
    """
    if not url.startswith("sqlite:///"):
        return
    path = Path(url.removeprefix("sqlite:///"))
    make_file(path)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute(f"PRAGMA user_version={version}")
    except sqlite3.Error as e:
        raise at_the_start(sqlite_error(e, f"{name} {path}")) from e
