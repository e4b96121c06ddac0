"""The ledger's schema: the same by migrations as by its tables, and from every version before, on both databases."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

import listener.ledger
from listener.ledger.database import Database, tables
from listener.ledger.migrations import MIGRATIONS, Migration, add_column, both
from listener.ledger.redrives import RedriveLedger
from listener.ledger.run_rows import RunRow
from listener.ledger.runs import RunLedger
from listener.ledger.schema import migrate, migrations_table
from manifests.errors import StateError
from support.earlier_states import EARLIER, defaults_of, fill, make_earlier, rows, schema_of
from support.servers import create_database

for module in pkgutil.iter_modules(listener.ledger.__path__):
    importlib.import_module(f"listener.ledger.{module.name}")  # so that `tables` has all of them

LANDED = (
    "f8c4ca2dc8e349e0",  # 1
    "98dd1468382b968c",  # 2
    "5a4e2ce93202a0ba",  # 3
    "e1b72d28254fde85",  # 4
    "85d87c859fbd27e8",  # 5
    "90622c1dcc3e01e8",  # 6
    "5ab3c9176fa4bc62",  # 7
    "a8326ec9a5dcaa18",  # 8
    "2bcff1207de78ac7",  # 9
    "070e5cc5e8ddc4bb",  # 10
    "14764959cc90c566",  # 11
)
"""What has landed never changes: a database that has it would not get the change. Append only."""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return _fresh(request, tmp_path, "one")


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def by_tables(request: pytest.FixtureRequest, tmp_path: Path, engine: sa.Engine) -> Iterator[sa.Engine]:
    """A second database of the same kind, made from the tables as the program knows them."""
    other = sa.create_engine(_fresh(request, tmp_path, "other", engine.dialect.name))
    tables.create_all(other)
    yield other
    other.dispose()


def _fresh(request: pytest.FixtureRequest, tmp_path: Path, name: str, kind: str = "") -> str:
    if (kind or request.param) == "sqlite":
        return f"sqlite:///{tmp_path / name}.sqlite"
    server = request.getfixturevalue("postgres_server")
    return create_database(server).replace("postgresql://", "postgresql+psycopg://")


def opened(url: str) -> None:
    async def once() -> None:
        database = Database(url)
        try:
            await database.open()
        finally:
            await database.close()

    asyncio.run(once())


def test_a_landed_migration_never_changes() -> None:
    assert tuple(migration.digest[:16] for migration in MIGRATIONS) == LANDED
    assert [migration.number for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


def test_migrations_make_what_the_tables_say(url: str, engine: sa.Engine, by_tables: sa.Engine) -> None:
    opened(url)
    assert schema_of(engine, tables) == schema_of(by_tables, tables)
    assert defaults_of(engine, tables) == defaults_of(by_tables, tables)
    opened(url)
    recorded = rows(engine)["gpudrop_migrations"]
    assert [row["number"] for row in recorded] == [migration.number for migration in MIGRATIONS]


@pytest.mark.parametrize("earlier", EARLIER)
def test_every_earlier_database_is_brought_forward(
    earlier: str, url: str, engine: sa.Engine, by_tables: sa.Engine
) -> None:
    make_earlier(engine, earlier)
    before = fill(engine)
    opened(url)
    assert schema_of(engine, tables) == schema_of(by_tables, tables)
    after = rows(engine)
    for name, was in before.items():
        assert [{column: row[column] for column in was[0]} for row in after[name]] == was


@pytest.mark.parametrize("earlier", EARLIER)
def test_a_redrive_number_is_not_given_again(earlier: str, url: str, engine: sa.Engine) -> None:
    make_earlier(engine, earlier)

    async def numbers() -> list[int]:
        database = Database(url)
        await database.open()
        redrives, found = RedriveLedger(database), list[int]()
        for _ in range(2):
            await redrives.request("run")
            ((number, _run),) = await redrives.requested()
            await redrives.answered(number)
            found.append(number)
        await database.close()
        return found

    first, second = asyncio.run(numbers())
    assert second > first


def test_a_number_column_comes_with_its_default(url: str, engine: sa.Engine) -> None:
    opened(url)
    fill_runs(url)
    more = Migration(len(MIGRATIONS) + 1, "tries", add_column("gpudrop_runs", "tries", "INTEGER NOT NULL DEFAULT 3"))
    migrate(engine, (*MIGRATIONS, more))
    assert [row["tries"] for row in rows(engine)["gpudrop_runs"]] == [3]


def test_a_migration_is_made_whole_or_not_at_all(url: str, engine: sa.Engine) -> None:
    opened(url)
    broken = Migration(
        len(MIGRATIONS) + 1, "broken", (both("CREATE TABLE half (a INTEGER)", "INSERT INTO nowhere VALUES (1)"),)
    )
    with pytest.raises(SQLAlchemyError):
        migrate(engine, (*MIGRATIONS, broken))
    assert not sa.inspect(engine).has_table("half")
    opened(url)


def test_a_newer_database_is_refused_and_left_alone(url: str, engine: sa.Engine) -> None:
    opened(url)
    newer = Migration(len(MIGRATIONS) + 1, "what comes later", (both("CREATE TABLE later (a INTEGER)"),))
    migrate(engine, (*MIGRATIONS, newer))
    with pytest.raises(StateError) as refused:
        opened(url)
    assert refused.value.info.code == "state_unusable"
    assert "what comes later" in refused.value.info.message
    assert refused.value.info.hint


def test_another_migration_of_the_same_number_is_refused(url: str, engine: sa.Engine) -> None:
    other = replace(MIGRATIONS[-1], name="another", steps=(both("CREATE TABLE elsewhere (a INTEGER)"),))
    migrate(engine, (*MIGRATIONS[:-1], other))
    with pytest.raises(StateError, match="another"):
        opened(url)


async def test_those_who_start_together_migrate_once(url: str, engine: sa.Engine) -> None:
    databases = [Database(url) for _ in range(6)]
    await asyncio.gather(*(database.open() for database in databases))
    for database in databases:
        await database.close()
    with engine.connect() as db:
        count = db.execute(sa.select(sa.func.count()).select_from(migrations_table)).scalar_one()
    assert count == len(MIGRATIONS)


def fill_runs(url: str) -> None:
    async def once() -> None:
        database = Database(url)
        await database.open()
        await RunLedger(database).add(RunRow("r", "b", "k", "t", "accepted", 1.0, 1.0, request=cast("Any", {})))
        await database.close()

    asyncio.run(once())
