"""A fresh database for the ledger, of each kind that an installation may choose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from listener.ledger.database import Database


@pytest.fixture
def postgres_ledger(postgres_url: str) -> str:
    """The URL by which the ledger reaches a fresh PostgreSQL database."""
    return postgres_url.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    return request.getfixturevalue("postgres_ledger")


@pytest.fixture
async def database(ledger_url: str) -> AsyncIterator[Database]:
    database = Database(ledger_url)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def closed_database(tmp_path: Path) -> Database:
    """One that nobody can ask any more: each call raises StoreUnavailable."""
    database = Database(f"sqlite:///{tmp_path / 'closed.sqlite'}")
    await database.open()
    await database.close()
    return database
