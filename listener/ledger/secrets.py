"""Secrets of the installation: drawn once, kept in the ledger, the same for all listeners on it. Never logged."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from listener.ledger.database import Database, tables

SECRET_BYTES = 32

secrets_table = sa.Table(
    "gpudrop_secrets",
    tables,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("secret", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Secret:
    """`created` is in epoch seconds: what is older knows nothing of it."""

    value: bytes = field(repr=False)
    created: float


class SecretLedger:
    """`clock` gives epoch seconds."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def secret(self, name: str) -> Secret:
        """The secret of this name, drawn where there is none. Raises StoreUnavailable."""
        drawn = {"name": name, "secret": os.urandom(SECRET_BYTES), "created": self._clock()}
        query = sa.select(secrets_table.c.secret, secrets_table.c.created).where(secrets_table.c.name == name)

        def work() -> Secret:
            with self._database.begin() as db:
                if db.execute(query).first() is None:
                    # Of several listeners that start together one draws it, and the others read that.
                    db.execute(self._database.insert(secrets_table).on_conflict_do_nothing().values(drawn))
                value, created = db.execute(query).one()
            return Secret(bytes(value), created)

        return await self._database.call(work)
