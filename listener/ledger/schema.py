"""Migrates a database to this program's schema, and refuses one with a newer schema."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa

from listener.ledger.migrations import MIGRATIONS, Migration
from manifests.errors import StateError

migrations_table = sa.Table(
    "gpudrop_migrations",
    sa.MetaData(),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("applied", sa.Float, nullable=False),
)
"""The migrations applied to this database; `applied` is in epoch seconds. The table is older than every other."""


def migrate(engine: sa.Engine, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Applies missing migrations, each in a transaction that excludes other processes. Raises StateError.

    Reads without a lock first, so that a role that may not create tables can use a complete schema.
    """
    with engine.connect() as db:
        missing = len(_missing(db, migrations))
    for _ in range(missing):
        with _exclusive(engine) as db:
            # Another process may have applied it meanwhile.
            for migration in _missing(db, migrations)[:1]:
                _apply(db, migration)


def _missing(db: sa.Connection, migrations: Sequence[Migration]) -> Sequence[Migration]:
    if not sa.inspect(db).has_table(migrations_table.name):
        return migrations
    table = migrations_table.c
    recorded = {row.number: row for row in db.execute(sa.select(table.number, table.name, table.digest))}
    known = {migration.number: migration for migration in migrations}
    for number, row in sorted(recorded.items()):
        if number not in known or known[number].digest != row.digest:
            raise StateError(
                f"A newer version of gpudrop made this state: its migration {number} ({row.name}) is not known here, "
                f"where {len(migrations)} are.",
                hint="Start that version again, or give this one a state of its own.",
                where="state",
            )
    return [migration for migration in migrations if migration.number not in recorded]


def _apply(db: sa.Connection, migration: Migration) -> None:
    migrations_table.create(db, checkfirst=True)
    for step in migration.steps:
        if step.dialect not in (None, db.dialect.name) or (step.unless and db.exec_driver_sql(step.unless).first()):
            continue
        for statement in step.statements:
            db.exec_driver_sql(statement)
    row = {"number": migration.number, "name": migration.name, "digest": migration.digest, "applied": time.time()}
    db.execute(sa.insert(migrations_table), row)


@contextmanager
def _exclusive(engine: sa.Engine) -> Generator[sa.Connection]:
    """Opens a transaction that excludes every other one of these on the same database."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as db:
            db.execute(sa.text("SELECT pg_advisory_xact_lock(7236827)"))
            yield db
        return
    # In its own transactions the driver would commit before an ALTER TABLE.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        db.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield db
        except BaseException:
            db.exec_driver_sql("ROLLBACK")
            raise
        db.exec_driver_sql("COMMIT")
