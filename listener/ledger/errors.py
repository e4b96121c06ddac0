"""Translates errors of SQLite and PostgreSQL into the project's."""

from __future__ import annotations

import sqlite3

import psycopg
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError

from manifests.errors import GpuDropError, StateError, StoreUnavailable

_DAMAGED = "Put a copy of it back, or move it away, with its -wal and -shm files, and start anew."
_SQLITE: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_CORRUPT: ("it is damaged", _DAMAGED),
    sqlite3.SQLITE_NOTADB: ("it is damaged, or no database", _DAMAGED),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "Check that it is a file, and who may read and write its folder."),
    sqlite3.SQLITE_PERM: ("it may not be opened", "Check who may read and write it and its folder."),
    sqlite3.SQLITE_READONLY: ("it may not be written", "Check who may write it and its folder, and how it is mounted."),
    sqlite3.SQLITE_FULL: ("the disk is full", "Free space."),
    sqlite3.SQLITE_IOERR: (
        "the disk does not take or give its data",
        "Check that there is space, and the disk itself.",
    ),
    sqlite3.SQLITE_BUSY: ("another program keeps it locked", "End that program."),
    sqlite3.SQLITE_LOCKED: ("another program keeps it locked", "End that program."),
}
_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_INSUFFICIENT_PRIVILEGE = "42501"


def database_error(error: DBAPIError, name: str) -> GpuDropError | None:
    """Returns StateError for a lasting problem, StoreUnavailable for a passing one, None for a defect of this program.

    `name` is what messages call the database, with its file if it has one.
    """
    cause = error.orig
    if isinstance(cause, sqlite3.Error) and _primary(cause) in _SQLITE:
        return sqlite_error(cause, name)
    if isinstance(cause, psycopg.Error) and cause.sqlstate == _INSUFFICIENT_PRIVILEGE:
        return StateError(
            f"{name} refuses: {_first_line(cause)}.",
            hint="Grant the role CREATE on the schema, and SELECT, INSERT, UPDATE and DELETE on its tables.",
            where="state",
        )
    # A server that has become a read-only standby raises InternalError.
    if isinstance(error, OperationalError | InternalError) or error.connection_invalidated:
        hint = "Check disk space and that nothing locks it."
        return StoreUnavailable(f"{name} cannot be used: {cause}.", hint=hint)
    return None


def sqlite_error(error: sqlite3.Error, name: str) -> GpuDropError:
    """Returns StateError for a damaged file, else StoreUnavailable."""
    code = _primary(error)
    reason, hint = _SQLITE.get(code, (str(error), "Check the disk, and who may write there."))
    kind = StateError if code in _BROKEN else StoreUnavailable
    return kind(f"{name} cannot be used: {reason} ({error}).", hint=hint, where="state")


def as_startup_error(error: GpuDropError) -> GpuDropError:
    """Turns a retryable error into a StateError: nothing runs yet that could wait, so the start ends."""
    return StateError(str(error), hint=error.info.hint, where="state") if error.retryable else error


def _primary(error: sqlite3.Error) -> int:
    """Returns SQLite's primary result code; 0 for an error that the driver itself raised."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _first_line(error: psycopg.Error) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
