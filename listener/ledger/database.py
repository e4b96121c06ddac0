"""The ledger's database: a SQLite file of its own beside the engine's, or tables of its own on PostgreSQL."""

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

from listener.ledger.errors import at_the_start, database_error
from listener.ledger.fair_thread import FairThread
from listener.ledger.files import make_file
from listener.ledger.schema import bring_forward
from manifests.errors import StoreUnavailable

T = TypeVar("T")

tables = sa.MetaData()
"""The tables as this program reads and writes them; listener.ledger.migrations makes them."""

CHUNK = 250
"""Rows a statement: below the limit on variables of every SQLite."""

_ASK_AGAIN_S = 0.2


class Database:
    """Every call is short and runs on one thread, so that SQLite has one writer in this process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
        self._name = f"The ledger's database {self._file}" if self._file else "The ledger's database"
        self._thread = FairThread("ledger")
        self._engine: sa.Engine | None = None
        self._closed = False

    async def open(self) -> None:
        """Connects, and brings an earlier version's tables forward. Raises StateError and StoreUnavailable."""
        try:
            await self.call(self._open)
        except StoreUnavailable as e:
            raise (at_the_start(e) if self._file else e) from e

    async def close(self) -> None:
        await self.call(lambda: self._engine.dispose() if self._engine else None)
        self._closed = True
        self._thread.close()

    async def call(self, work: Callable[[], T], *, many: bool = False) -> T:
        """`work` on the ledger's thread, in turn; `many`: it is about hundreds of rows.

        Raises StoreUnavailable when the database cannot be used now, and StateError when it is damaged.
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
        """A transaction; only inside `call`."""
        return self._opened().begin()

    @asynccontextmanager
    async def alone(self, what: str) -> AsyncGenerator[None]:
        """Nobody else on this database is inside an `alone` of the same name; waits for whoever is.

        It asks again and again: a question that waits on the server would hold up an index made there concurrently.
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
        """An insert that can say what to do when the row is there already."""
        return sqlite.insert(table) if self._url.startswith("sqlite") else postgresql.insert(table)

    def upsert(self, db: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Each row replaces the one with its primary key. No two of `rows` may share one.

        In order of the key: two listeners that write the same rows in different orders would lock each other out.
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
            bring_forward(engine)
        except BaseException:
            engine.dispose()
            raise
        self._engine = engine


def in_chunks(rows: Sequence[T]) -> list[list[T]]:
    return [list(rows[i : i + CHUNK]) for i in range(0, len(rows), CHUNK)]


def _on_postgresql(url: str) -> sa.Engine:
    """A server that has vanished is noticed within ten seconds: one thread waits for it."""
    return sa.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 5, "tcp_user_timeout": 10_000})


def _tune_sqlite(connection: Any, _: Any) -> None:
    # First: to change the journal's mode, too, another process may have to be waited for.
    connection.execute("PRAGMA busy_timeout=10000")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    # Keys that differ in case only are different keys, here as on PostgreSQL.
    connection.execute("PRAGMA case_sensitive_like=ON")
