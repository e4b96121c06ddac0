"""Secrets of the installation: kept in the ledger, the same for all listeners on it. Never logged."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from listener.ledger.database import Database, tables

SECRET_BYTES = 32

FORMER_S = 2 * 86_400.0
"""A secret that another has replaced counts for so long: the longest link of what was sent with it has ended then."""

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
    """`created` is in epoch seconds: what is older knows nothing of it."""

    value: bytes = field(repr=False)
    created: float


def drawn(now_s: float) -> SecretSpec:
    """A new one, of this moment in epoch seconds."""
    return SecretSpec(os.urandom(SECRET_BYTES), now_s)


class SecretLedger:
    """`clock` gives epoch seconds."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def known(self, name: str) -> tuple[SecretSpec, ...]:
        """The secret in force, then those that it replaced lately, newest first; none: there has never been one."""

        def work() -> tuple[SecretSpec, ...]:
            with self._database.begin() as db:
                return self._read(db, name)

        return await self._database.call(work)

    async def secret(self, name: str, proposed: SecretSpec) -> tuple[SecretSpec, ...]:
        """As `known`; where there has never been one, `proposed` is it from now on."""

        def work() -> tuple[SecretSpec, ...]:
            with self._database.begin() as db:
                return self._read(db, name) or self._begun(db, name, proposed)

        return await self._database.call(work)

    async def change(self, name: str, new: SecretSpec) -> tuple[SecretSpec, ...]:
        """As `known`, with `new` in force from now on; one that was before is kept for what was sent with it."""

        def work() -> tuple[SecretSpec, ...]:
            with self._database.begin() as db:
                known = self._read(db, name) or self._begun(db, name, new)
                if known[0].value == new.value:
                    return known
                former = {"name": f"{_former(name)}{new.created!r}", "secret": known[0].value}
                db.execute(sa.insert(secrets_table), {**former, "created": known[0].created})
                changed = sa.update(secrets_table).where(_c.name == name, _c.secret == known[0].value)
                db.execute(changed.values(secret=new.value, created=new.created))
                return self._read(db, name)

        return await self._database.call(work)

    def _begun(self, db: sa.Connection, name: str, secret: SecretSpec) -> tuple[SecretSpec, ...]:
        """Of several listeners that start together one's is it, and the others read that."""
        row = {"name": name, "secret": secret.value, "created": secret.created}
        db.execute(self._database.insert(secrets_table).on_conflict_do_nothing().values(row))
        return self._read(db, name)

    def _read(self, db: sa.Connection, name: str) -> tuple[SecretSpec, ...]:
        mine = sa.or_(_c.name == name, _c.name.startswith(_former(name), autoescape=True))
        rows = {
            row.name: SecretSpec(bytes(row.secret), row.created)
            for row in db.execute(sa.select(secrets_table).where(mine))
        }
        if name not in rows:
            return ()
        counts = [former for former in rows if former != name and _until(former) > self._clock() - FORMER_S]
        return (rows[name], *(rows[former] for former in sorted(counts, key=_until, reverse=True)))


def _former(name: str) -> str:
    """What the row of one that was replaced is called, before the moment when it was."""
    return f"{name} until "


def _until(name: str) -> float:
    """When another one replaced it, in epoch seconds."""
    return float(name.rpartition(" ")[2])
