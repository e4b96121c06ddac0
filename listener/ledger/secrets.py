"""The installation's secrets, which all listeners on one ledger share. They are never logged."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from listener.ledger.database import Database, tables

SECRET_BYTES = 32

REPLACED_VALID_S = 8 * 86_400.0
"""How long a replaced secret stays valid: no store signs a link for longer than a week."""

secrets_table = sa.Table(
    "gpudrop_secrets",
    tables,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("secret", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)

_c = secrets_table.c


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """A secret and when it came into force."""

    value: bytes = field(repr=False)
    created: float
    """Epoch seconds; what was sent before then does not use it."""


def new_secret(now_s: float) -> SecretSpec:
    """Makes a random secret. `now_s`: epoch seconds."""
    return SecretSpec(os.urandom(SECRET_BYTES), now_s)


class SecretLedger:
    """Reads, creates and replaces secrets. `clock` gives epoch seconds."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def all(self, name: str) -> tuple[SecretSpec, ...]:
        """Returns the secret in force, then those replaced within FORMER_S, newest first; empty if there is none."""

        def work() -> tuple[SecretSpec, ...]:
            with self._database.begin() as db:
                return self._read(db, name)

        return await self._database.call(work)

    async def get_or_create(self, name: str, proposed: SecretSpec) -> tuple[SecretSpec, ...]:
        """Returns the same as `known`, after putting `proposed` in force if there never was a secret."""

        def work() -> tuple[SecretSpec, ...]:
            with self._database.begin() as db:
                return self._read(db, name) or self._insert_first(db, name, proposed)

        return await self._database.call(work)

    async def change(self, name: str, new: SecretSpec) -> tuple[SecretSpec, ...]:
        """Puts `new` in force and returns the same as `known`; the replaced one is kept for what was sent with it."""

        def work() -> tuple[SecretSpec, ...]:
            with self._database.begin() as db:
                known = self._read(db, name) or self._insert_first(db, name, new)
                if known[0].value == new.value:
                    return known
                former = {"name": f"{_replaced_prefix(name)}{new.created!r}", "secret": known[0].value}
                db.execute(sa.insert(secrets_table), {**former, "created": known[0].created})
                changed = sa.update(secrets_table).where(_c.name == name, _c.secret == known[0].value)
                db.execute(changed.values(secret=new.value, created=new.created))
                return self._read(db, name)

        return await self._database.call(work)

    def _insert_first(self, db: sa.Connection, name: str, secret: SecretSpec) -> tuple[SecretSpec, ...]:
        """Inserts the first secret, or reads the one that another listener has inserted at the same time."""
        row = {"name": name, "secret": secret.value, "created": secret.created}
        db.execute(self._database.insert(secrets_table).on_conflict_do_nothing().values(row))
        return self._read(db, name)

    def _read(self, db: sa.Connection, name: str) -> tuple[SecretSpec, ...]:
        mine = sa.or_(_c.name == name, _c.name.startswith(_replaced_prefix(name), autoescape=True))
        rows = {
            row.name: SecretSpec(bytes(row.secret), row.created)
            for row in db.execute(sa.select(secrets_table).where(mine))
        }
        if name not in rows:
            return ()
        counts = [former for former in rows if former != name and _until(former) > self._clock() - REPLACED_VALID_S]
        return (rows[name], *(rows[former] for former in sorted(counts, key=_until, reverse=True)))


def _replaced_prefix(name: str) -> str:
    """Returns what the names of replaced secrets' rows begin with; the time of the replacement follows."""
    return f"{name} until "


def _until(name: str) -> float:
    """Returns when the secret of this row was replaced, in epoch seconds."""
    return float(name.rpartition(" ")[2])
