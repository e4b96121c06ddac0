"""The ledger's database: a SQLite file of its own beside the engine's, or tables of its own on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from manifests.errors import StoreUnavailable

T = TypeVar("T")

tables = sa.MetaData()


class Database:
    """Every call is short and runs on one thread, so that SQLite has one writer in this process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._engine: sa.Engine | None = None

    async def open(self) -> None:
        await self.call(self._open)

    async def close(self) -> None:
        await self.call(lambda: self._engine.dispose() if self._engine else None)
        self._thread.shutdown(wait=False)

    async def call(self, work: Callable[[], T]) -> T:
        """`work` on the ledger's thread. Raises StoreUnavailable when the database cannot be used now."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except OperationalError as e:
            raise StoreUnavailable(
                f"The ledger's database cannot be used: {e.orig}.", hint="Check disk space and that nothing locks it."
            ) from e

    def begin(self) -> AbstractContextManager[sa.Connection]:
        """A transaction; only inside `call`."""
        if self._engine is None:
            raise RuntimeError("the ledger is not open")
        return self._engine.begin()

    def upsert(self, db: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> None:
        insert = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
        keys = [column.name for column in table.primary_key.columns]
        rest = {name: value for name, value in values.items() if name not in keys}
        db.execute(insert(table).values(**values).on_conflict_do_update(index_elements=keys, set_=rest))

    def _open(self) -> None:
        if self._url.startswith("sqlite:///"):
            Path(self._url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(self._url)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _tune_sqlite)
        tables.create_all(engine)
        self._engine = engine


def _tune_sqlite(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA busy_timeout=10000")
