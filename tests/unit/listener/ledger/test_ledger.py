"""What the ledger remembers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest

from listener.ledger.database import Database
from listener.ledger.objects import ObjectLedger
from listener.ledger.ownership import KeyClaim, OutputOwners
from listener.ledger.redrives import RedriveLedger
from listener.ledger.run_rows import ENDED, RunRow, RunState
from listener.ledger.runs import RunLedger
from listener.stores.base import ObjectMeta

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def meta(key: str, *, etag: str = "e", seconds: float = 0) -> ObjectMeta:
    return ObjectMeta(key=key, size=1, etag=etag, last_modified=NOW + timedelta(seconds=seconds))


def row(run_id: str, key: str = "a/b.job.json", **changes: object) -> RunRow:
    base = RunRow(run_id, "bucket", key, "manifests", "accepted", 1.0, 1.0, request={"key": key})
    return replace(base, **changes)  # pyright: ignore[reportArgumentType]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    await database.open()
    yield database
    await database.close()


async def test_what_was_taken_in_is_known_by_version(database: Database) -> None:
    objects = ObjectLedger(database)
    await objects.record_listed("bucket", meta("a"))
    assert await objects.unknown("bucket", [meta("a"), meta("b")]) == [meta("b")]
    assert await objects.unknown("other", [meta("a")]) == [meta("a")]
    assert await objects.unknown("bucket", [meta("a", seconds=0.4)]) == []
    overwritten = meta("a", seconds=1)
    assert await objects.unknown("bucket", [overwritten]) == [overwritten]
    await objects.forget("bucket", "a")
    assert await objects.unknown("bucket", [meta("a")]) == [meta("a")]


async def test_what_ought_to_be_there_is_told_a_few_at_a_time(database: Database) -> None:
    objects, runs = ObjectLedger(database), RunLedger(database)
    for key in ("b", "c", "a", "é"):
        await objects.record_listed("bucket", meta(key))
    await objects.record_listed("other", meta("d"))
    assert await objects.taken_in("bucket", after="", limit=2) == ["a", "b"]
    assert await objects.taken_in("bucket", after="b", limit=9) == ["c", "é"]
    for i, state in enumerate(get_args(RunState)):
        await runs.add(row(state, f"{state}.mp3", state=state, accepted=float(i)))
    await runs.request_end("queued", "cancelled")
    expected = ["accepted.mp3", "waiting.mp3", "running.mp3", "writing.mp3"]
    assert await objects.unfinished("bucket") == expected
    assert await objects.unfinished("other") == []


async def test_outputs_are_known_from_intent_to_version(database: Database) -> None:
    objects = ObjectLedger(database)
    assert await OutputOwners(database).claim("bucket", ["x", "y"], KeyClaim("run", "a.job.json", 2)) == ()
    written = await objects.written("bucket", "x")
    assert written
    assert (written.run_id, written.lineage, written.version) == ("run", 2, "")
    await objects.record_written("bucket", [meta("x")], "run")
    assert await objects.unknown("bucket", [meta("x")]) == []
    assert await objects.claimed("bucket", "run") == ["y"]
    await objects.release_claims("bucket", "run")
    assert await objects.written("bucket", "y") is None
    assert await objects.written("bucket", "x")


async def test_a_run_is_added_once_and_ends_once(database: Database) -> None:
    runs = RunLedger(database)
    assert await runs.add(row("r1"))
    assert not await runs.add(row("r1", state="running"))
    await runs.update("r1", state="running", at=2.0, operation="caption")
    await runs.update("r1", state="done", at=3.0)
    await runs.update("r1", state="failed", at=4.0, error_code="late")
    found = await runs.find("r1")
    assert found == row("r1", state="done", updated=3.0, operation="caption")
    assert await runs.unfinished() == []


async def test_runs_are_found_by_id_key_and_file_name(database: Database) -> None:
    runs = RunLedger(database)
    await runs.add(row("abc1"))
    await runs.add(row("abd2", "other/b.job.json", accepted=2.0))
    await runs.add(row("x_y%", "c%d.job.json", accepted=3.0))
    assert [r.run_id for r in await runs.matching("abc")] == ["abc1"]
    assert [r.run_id for r in await runs.matching("b.job.json")] == ["abd2", "abc1"]
    assert [r.run_id for r in await runs.matching("a/b.job.json")] == ["abc1"]
    assert [r.run_id for r in await runs.matching("bucket/a/b.job.json")] == ["abc1"], "as `gpudrop status` prints it"
    assert [r.run_id for r in await runs.matching("%")] == []
    assert [r.run_id for r in await runs.recent(2)] == ["x_y%", "abd2"]


async def test_commands_wait_for_the_listener(database: Database) -> None:
    runs = RunLedger(database)
    await runs.add(row("r1"))
    await runs.add(row("r2", state="done"))
    await runs.request_end("r1", "cancelled")
    await runs.request_end("r1", "superseded")
    await runs.request_end("r2", "cancelled")
    assert await runs.ends_requested() == {"r1": "cancelled"}
    redrives = RedriveLedger(database)
    await redrives.request("r2")
    ((number, run_id),) = await redrives.requested()
    assert run_id == "r2"
    await redrives.answered(number)
    assert await redrives.requested() == []


async def test_two_processes_may_use_it(tmp_path: Path, database: Database) -> None:
    """`gpudrop cancel` writes while the listener does."""
    other = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    await other.open()
    await RunLedger(other).add(row("theirs"))
    assert await RunLedger(database).find("theirs")
    await other.close()


async def test_a_run_waits_for_the_end_of_the_older_ones_of_its_drop(database: Database) -> None:
    runs = RunLedger(database)
    for number, run_id in enumerate(("z1", "a2", "m3"), start=1):
        await runs.add(row(run_id, accepted=float(number)))
    await runs.add(row("other", "other.job.json", accepted=9.0))

    async def claimed(**options: float) -> list[str]:
        return [found.run_id for found in await runs.claim("m1", 9, **options)]

    assert await claimed() == ["z1", "other"]
    assert await claimed() == []
    await runs.update("z1", state="superseded", at=5.0)
    assert await claimed() == ["a2"]
    # One whose elder does not come to its end begins beside it at last.
    assert await claimed(overdue=3.0) == []
    assert await claimed(overdue=3.5) == ["m3"]


async def test_a_run_may_write_until_it_has_ended_or_is_replaced(database: Database) -> None:
    runs = RunLedger(database)
    for state in get_args(RunState):
        await runs.add(row(state, state=state))
    assert {state for state in get_args(RunState) if await runs.may_write(state)} == set(get_args(RunState)) - ENDED
    await runs.request_end("running", "cancelled")
    assert await runs.may_write("running")
    await runs.request_end("queued", "superseded")
    assert not await runs.may_write("queued")
    assert await runs.may_write("not on record")
