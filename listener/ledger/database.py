"""The ledger's database: a SQLite file beside the engine's, or tables on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from listener.ledger.errors import as_startup_error, database_error
from listener.ledger.fair_thread import FairThread
from listener.ledger.files import make_file
from listener.ledger.schema import migrate
from manifests.errors import StoreUnavailable

T = TypeVar("T")

tables = sa.MetaData()
"""The tables as this program uses them; listener.ledger.migrations creates them."""

CHUNK = 250
"""Rows per statement: below the limit on variables of every SQLite."""

_ASK_AGAIN_S = 0.2


class Database:
    """Runs short calls on one thread, so that SQLite has one writer in this process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
        self._name = f"The ledger's database {self._file}" if self._file else "The ledger's database"
        self._thread = FairThread("ledger")
        self._engine: sa.Engine | None = None
        self._closed = False

    async def open(self) -> None:
        """Connects and migrates the schema. Raises StateError and StoreUnavailable."""
        try:
            await self.call(self._open)
        except StoreUnavailable as e:
            raise (as_startup_error(e) if self._file else e) from e

    async def close(self) -> None:
        await self.call(lambda: self._engine.dispose() if self._engine else None)
        self._closed = True
        self._thread.close()

    async def call(self, work: Callable[[], T], *, many: bool = False) -> T:
        """Runs `work` on the ledger's thread, in turn. `many`: it concerns hundreds of rows.

        Raises StoreUnavailable if the database cannot be used now, and StateError for a lasting problem.
        """
        if self._closed:
            raise StoreUnavailable("The ledger is closed: this program is ending.", hint="Start it again.")
        try:
            return await asyncio.wrap_future(self._thread.submit(work, many=many))
        except DBAPIError as e:
            if known := database_error(e, self._name):
                raise known from e
            raise

    def begin(self) -> AbstractContextManager[sa.Connection]:
        """Begins a transaction; to be used inside `call` only."""
        return self._opened().begin()

    @asynccontextmanager
    async def lock(self, what: str) -> AsyncGenerator[None]:
        """Holds the PostgreSQL lock named `what`, waiting until no other process has it. Does nothing on SQLite.

        Polls every 0.2 s: a statement that waits on the server would hold up CREATE INDEX CONCURRENTLY there.
        """
        if self._url.startswith("sqlite"):
            yield
            return
        lock = sa.text("SELECT pg_try_advisory_lock(hashtext(:what))")
        held = await self.call(lambda: self._opened().connect().execution_options(isolation_level="AUTOCOMMIT"))
        try:
            while True:
                if await self.call(lambda: held.scalar(lock, {"what": f"gpudrop {what}"})):
                    break
                await asyncio.sleep(_ASK_AGAIN_S)
            yield
        finally:
            # The lock ends with its session.
            await self.call(held.invalidate)

    def insert(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        """Returns the dialect's insert, which has `on_conflict_…`."""
        return sqlite.insert(table) if self._url.startswith("sqlite") else postgresql.insert(table)

    def upsert(self, db: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Inserts rows or replaces those with the same primary key; `rows` must not repeat one.

        Writes in order of the key: listeners that write the same rows in different orders would deadlock.
        """
        if not rows:
            return
        keys = [column.name for column in table.primary_key.columns]
        rows = sorted(rows, key=lambda row: [row[name] for name in keys])
        insert = self.insert(table)
        rest: dict[str, Any] = {name: insert.excluded[name] for name in rows[0] if name not in keys}
        db.execute(insert.on_conflict_do_update(index_elements=keys, set_=rest), rows)

    def _opened(self) -> sa.Engine:
        if self._engine is None:
            raise RuntimeError("the ledger is not open")
        return self._engine

    def _open(self) -> None:
        if self._file:
            make_file(self._file)
        engine = sa.create_engine(self._url) if self._url.startswith("sqlite") else _on_postgresql(self._url)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _tune_sqlite)
        try:
            migrate(engine)
        except BaseException:
            engine.dispose()
            raise
        self._engine = engine


def in_chunks(rows: Sequence[T]) -> list[list[T]]:
    return [list(rows[i : i + CHUNK]) for i in range(0, len(rows), CHUNK)]


def _on_postgresql(url: str) -> sa.Engine:
    """Makes an engine that notices a vanished server within ten seconds, because all calls share one thread."""
    return sa.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 5, "tcp_user_timeout": 10_000})


def _tune_sqlite(connection: Any, _: Any) -> None:
    # First, because changing the journal mode may wait for another process, too.
    connection.execute("PRAGMA busy_timeout=10000")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    # Keys that differ only in case are different keys, as on PostgreSQL.
    connection.execute("PRAGMA case_sensitive_like=ON")
