"""Looks at keys on a real server: what it does not show yet is looked at again, and what it never shows is let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from listener.clock import Clock
from listener.config.credentials import AccessKeys
from listener.intake.inbox import Backlog
from listener.intake.processor import InboxProcessor, ProcessorServices
from listener.intake.source_status import SourceStatusRecorder
from listener.ledger.database import Database
from listener.ledger.inbox import InboxEvent, InboxLedger
from listener.ledger.intake import IntakeLedger
from listener.ledger.runs import RunLedger
from listener.ledger.sources import SourceLedger
from listener.signals import Cancellations
from listener.stores.s3.store import S3Store
from listener.triggers.triggers import MANIFESTS, TriggerBook
from support.deadlines import HANG_S
from support.stores import settings_for

KEY = "a.job.json"
NOW = 1000.0
HOURS = 3600.0


class Intake:
    """Keys told are looked at by a store that may be given other keys; the clock stands at NOW."""

    def __init__(self, server: Any, bucket: str, database: Database) -> None:
        self.good = AccessKeys(server.access_key, server.secret_key)
        self.keys = self.good
        self.store = S3Store(settings_for(server, bucket, keys=lambda: self.keys))
        self.runs = RunLedger(database)
        self.inbox = InboxLedger(database, "m1")
        self.bucket = bucket
        self.now = NOW
        self._backlog = Backlog()
        self.processor = InboxProcessor(
            ProcessorServices(
                store=self.store,
                inbox=self.inbox,
                intake=IntakeLedger(database),
                runs=self.runs,
                triggers=TriggerBook([MANIFESTS]),
                cancellations=Cancellations(),
                source_status=SourceStatusRecorder(SourceLedger(database), "m1", lambda: self.now),
                backlog=self._backlog,
                clock=Clock(lambda: self.now, lambda: self.now),
                accepted=lambda: None,
                max_lineage=4,
            )
        )

    async def look(self) -> None:
        """At all whose time has come."""
        await self.processor.examine(await self.inbox.claim(100, self.now))

    async def tell(self) -> None:
        await self.inbox.add([InboxEvent(self.bucket, KEY, True, "test", self.now)], hold=False)

    async def run_keys(self) -> list[str]:
        return [run.key for run in await self.runs.recent(9)]


@asynccontextmanager
async def intake(server: Any, bucket: str, tmp_path: Path) -> AsyncIterator[Intake]:
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    await database.open()
    async with asyncio.timeout(HANG_S):
        made = Intake(server, bucket, database)
        yield made
    await made.store.close()
    await database.close()


async def test_a_drop_that_may_not_be_seen_yet_is_taken_up_once_it_may(
    minio_server: Any, minio_bucket: str, tmp_path: Path
) -> None:
    async with intake(minio_server, minio_bucket, tmp_path) as at:
        await at.store.write(minio_bucket, KEY, b"{}", content_type="")
        at.keys = AccessKeys("nobody", "no secret of anybody")
        await at.tell()
        with capture_logs() as logs:
            for _ in range(10):
                await at.look()
                at.now += 300.0
        assert [line["log_level"] for line in logs if line["event"] == "key_not_looked_up"] == ["error"] + 9 * ["debug"]
        at.keys = at.good
        await at.look()
        assert await at.run_keys() == [KEY]
        assert await at.inbox.waiting() == 0


async def test_a_key_that_may_never_be_seen_is_let_go(minio_server: Any, minio_bucket: str, tmp_path: Path) -> None:
    async with intake(minio_server, minio_bucket, tmp_path) as at:
        at.keys = AccessKeys("nobody", "no secret of anybody")
        await at.tell()
        await at.look()
        assert await at.inbox.waiting() == 1
        at.now += 6 * HOURS
        with capture_logs() as logs:
            await at.look()
        assert await at.inbox.waiting() == 0
        assert [line["key"] for line in logs if line["event"] == "event_refused"] == [KEY]


async def test_an_object_that_is_told_of_before_it_is_shown_starts_its_run(
    minio_server: Any, minio_bucket: str, tmp_path: Path
) -> None:
    async with intake(minio_server, minio_bucket, tmp_path) as at:
        await at.tell()
        await at.look()
        await at.store.write(minio_bucket, KEY, b"{}", content_type="")
        await at.look()
        assert await at.run_keys() == []
        at.now += 1.0
        await at.look()
        assert await at.run_keys() == [KEY]


async def test_what_never_appears_is_a_phantom(minio_server: Any, minio_bucket: str, tmp_path: Path) -> None:
    async with intake(minio_server, minio_bucket, tmp_path) as at:
        await at.tell()
        looks = 0
        while await at.inbox.waiting():
            await at.look()
            at.now += 5.0
            looks += 1
        assert looks == 4
        assert await at.run_keys() == []
