"""A store whose single calls are held back until a test lets them go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from listener.ledger.database import Database
from listener.ledger.objects import ObjectLedger
from listener.ledger.run_rows import RunRow, runs_table
from listener.ledger.runs import RunLedger
from listener.run_request import RunRequest
from listener.triggers.triggers import Trigger


@dataclass
class HeldCall:
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    fails: Exception | None = None
    """What it then raises, instead of being made."""


class HeldStore:
    """`store`, but for calls of `hold`."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._held: dict[tuple[str, str], HeldCall] = {}

    def hold(self, call: str, key: str) -> HeldCall:
        """The next `call` for `key`: it is made once `go_on` is set."""
        self._held[call, key] = HeldCall()
        return self._held[call, key]

    def __getattr__(self, name: str) -> Any:
        made = getattr(self._store, name)
        if name not in ("put", "replace", "delete", "read", "head"):
            return made

        async def call(bucket: str, key: str, *rest: Any, **options: Any) -> Any:
            if held := self._held.pop((name, key), None):
                held.arrived.set()
                await held.go_on.wait()
                if held.fails:
                    raise held.fails
            return await made(bucket, key, *rest, **options)

        return call


def run_of(run_id: str, key: str = "a.job.json", *, bucket: str = "drop", received: float = 0.0) -> RunRequest:
    return RunRequest(run_id, bucket, key, f"version of {run_id}", Trigger(name="t"), received, received, "test")


@dataclass
class RunRecords:
    """The ledger as runs use it."""

    database: Database
    runs: RunLedger
    objects: ObjectLedger

    async def add(self, run: RunRequest, *, accepted: float = 1.0) -> RunRequest:
        row = RunRow(run.run_id, run.bucket, run.key, "t", "accepted", accepted, accepted, {})
        assert await self.runs.add(row)
        return run

    async def set_back(self, run_id: str) -> None:
        """As if the end of the run had not been recorded."""

        def work() -> None:
            with self.database.begin() as db:
                db.execute(sa.update(runs_table).where(runs_table.c.run_id == run_id).values(state="running"))

        await self.database.call(work)


async def run_records(folder: Path) -> AsyncIterator[RunRecords]:
    database = Database(f"sqlite:///{folder / 'ledger.sqlite'}")
    await database.open()
    yield RunRecords(database, RunLedger(database), ObjectLedger(database))
    await database.close()
