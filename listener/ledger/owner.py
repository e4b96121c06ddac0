"""Records which store the ledger belongs to, beside the installation's secrets, and refuses another one."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from listener.config.state import StateFolder
from listener.config.store_identity import StoreIdentity, identity_from, is_same
from listener.ledger.database import Database
from listener.ledger.secrets import secrets_table
from manifests.errors import StateError

_NAME = "store"
"""The row's name in the table of secrets. It is no secret, but belongs to the installation as they do."""

_c = secrets_table.c


async def require_owner(database: Database, state: StateFolder, now: StoreIdentity) -> None:
    """Records `now` if nothing is recorded. Raises StateError if the ledger belongs to another store."""
    recorded = await _recorded(database, now)
    if recorded is None or recorded == now:
        return
    if not is_same(now, recorded, shared=state.shared):
        raise _wrong_store(state.folder, now, recorded)
    if not state.shared:
        await rebind(database, now)


def check_owner(folder: Path, now: StoreIdentity) -> None:
    """Checks a SQLite state in `folder` as `require_owner` does, but records nothing and ignores a damaged file."""
    try:
        with closing(sqlite3.connect(f"{(folder / 'ledger.sqlite').as_uri()}?mode=ro", uri=True)) as db:
            row = db.execute("SELECT secret FROM gpudrop_secrets WHERE name = ?", (_NAME,)).fetchone()
    except sqlite3.Error:
        return
    recorded = identity_from(row[0]) if row and isinstance(row[0], bytes) else None
    if recorded and not is_same(now, recorded, shared=False):
        raise _wrong_store(folder, now, recorded)


def _wrong_store(folder: Path | None, now: StoreIdentity, recorded: StoreIdentity) -> StateError:
    return StateError(
        f"The state in {folder or 'PostgreSQL'} belongs to {recorded}; this configuration is for {now}.",
        hint="Give each configuration a `state` of its own. If the store was moved, run `gpudrop rebind` once.",
        where="state",
    )


async def rebind(database: Database, now: StoreIdentity) -> None:
    """Records that the ledger belongs to `now`, whatever was recorded."""

    def work() -> None:
        with database.begin() as db:
            database.upsert(db, secrets_table, [_row(now)])

    await database.call(work)


async def _recorded(database: Database, now: StoreIdentity) -> StoreIdentity | None:
    def work() -> bytes:
        with database.begin() as db:
            db.execute(database.insert(secrets_table).on_conflict_do_nothing().values(_row(now)))
            return bytes(db.execute(sa.select(_c.secret).where(_c.name == _NAME)).scalar_one())

    return identity_from(await database.call(work))


def _row(identity: StoreIdentity) -> dict[str, object]:
    return {"name": _NAME, "secret": identity.model_dump_json().encode(), "created": time.time()}
