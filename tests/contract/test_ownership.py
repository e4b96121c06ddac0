"""Whose keys are whose, on each database: outputs, and the names of sidecars."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from listener.ledger.database import Database
from listener.ledger.inbox import InboxEvent, InboxLedger
from listener.ledger.intake import IntakeDecision, IntakeLedger, IntakeResult
from listener.ledger.objects import UNSEEN, ObjectLedger, SeenVersion
from listener.ledger.ownership import KeyClaim, OutputOwners, OwnedKey, sidecars_table
from listener.ledger.run_rows import RunRow
from listener.ledger.runs import RunLedger
from listener.stores.base import ObjectMeta

ONE, TWO = KeyClaim("r1", "one.mp3", 0), KeyClaim("r2", "two.mp3", 0)
KEYS = ["out/a.srt", "out/b.srt"]


def run(key: str, run_id: str = "", **changes: Any) -> RunRow:
    base = RunRow(run_id or f"run-{key}", "bucket", key, "manifests", "accepted", 1.0, 1.0, request={"key": key})
    return replace(base, **changes)


async def settle(database: Database, *settled: tuple[str, SeenVersion, RunRow | None]) -> IntakeResult:
    ledger = InboxLedger(database, "m1")
    items = await ledger.add([InboxEvent("bucket", key, True, "test", 1.0) for key, _, _ in settled], hold=True)
    settlements = [IntakeDecision(item, seen, row) for item, (_, seen, row) in zip(items, settled, strict=True)]
    return await IntakeLedger(database).commit(settlements, reason="cancelled")


async def dropped(database: Database, *keys: str) -> dict[str, str]:
    """The names of the sidecars of drops that are taken in together."""
    settled = await settle(database, *((key, SeenVersion("e@1", "v1"), run(key)) for key in keys))
    return {row.key: row.request["sidecars"] for row in settled.started}


async def removed(database: Database, key: str) -> None:
    await settle(database, (key, UNSEEN, None))


async def ended(database: Database, key: str) -> None:
    await RunLedger(database).update(f"run-{key}", state="done", at=2.0)


async def test_keys_are_claimed_all_or_none(database: Database) -> None:
    owners = OutputOwners(database)
    await RunLedger(database).add(run("one.mp3", "r1"))
    assert await owners.claim("bucket", KEYS[:1], ONE) == ()
    taken = await owners.claim("bucket", KEYS, TWO)
    assert taken == (OwnedKey(KEYS[0], "one.mp3", "r1", open=True),)
    assert await ObjectLedger(database).written("bucket", KEYS[1]) is None
    assert await owners.claim("other", KEYS, TWO) == ()


async def test_another_run_of_the_same_drop_has_the_same_keys(database: Database) -> None:
    owners = OutputOwners(database)
    assert await owners.claim("bucket", KEYS, ONE) == ()
    assert await owners.claim("bucket", KEYS, replace(ONE, run_id="r1 again")) == ()
    written = await ObjectLedger(database).written("bucket", KEYS[0])
    assert written
    assert written.run_id == "r1 again"


async def test_an_owner_is_known_when_its_run_is_forgotten(database: Database) -> None:
    owners, runs = OutputOwners(database), RunLedger(database)
    await runs.add(run("one.mp3", "r1", state="done"))
    await owners.claim("bucket", KEYS, ONE)
    await runs.forget(9.0)
    assert await owners.claim("bucket", KEYS[1:], TWO) == (OwnedKey(KEYS[1], "one.mp3", "r1"),)


async def test_what_was_found_free_is_free_only_of_that_run(database: Database) -> None:
    owners = OutputOwners(database)
    await owners.claim("bucket", KEYS[:1], ONE)
    (found,) = await owners.claim("bucket", KEYS[:1], TWO)
    await owners.claim("bucket", KEYS[:1], replace(ONE, run_id="r1 again"))
    assert await owners.claim("bucket", KEYS[:1], TWO, free=[found])
    (found,) = await owners.claim("bucket", KEYS[:1], TWO)
    assert await owners.claim("bucket", KEYS[:1], TWO, free=[found]) == ()


async def test_a_drop_is_nobodys_output(database: Database) -> None:
    owners = OutputOwners(database)
    await dropped(database, "two.mp3")
    assert await owners.claim("bucket", ["two.mp3"], ONE) == (OwnedKey("two.mp3", "two.mp3"),)
    assert await owners.claim("bucket", ["two.mp3"], TWO) == (OwnedKey("two.mp3", "two.mp3"),)


async def test_an_output_that_is_a_drop_itself_stays_its_runs(database: Database) -> None:
    """A run whose outputs start runs is run again."""
    owners = OutputOwners(database)
    await owners.claim("bucket", ["clip.mp4"], ONE)
    await ObjectLedger(database).record_written(
        "bucket", [ObjectMeta("clip.mp4", 1, "e", datetime.fromtimestamp(1, UTC))], "r1"
    )
    await dropped(database, "clip.mp4")
    assert await owners.claim("bucket", ["clip.mp4"], replace(ONE, run_id="r1 again")) == ()


async def test_of_two_listeners_one_gets_the_keys(ledger_url: str, database: Database) -> None:
    """Wherever several may work on one ledger."""
    others = [Database(ledger_url) for _ in range(4)]
    for each in others:
        await each.open()
    claims = [KeyClaim(f"r{n}", f"{n}.mp3", 0) for n in range(len(others))]
    keys = [f"k{n}" for n in range(40)]
    found = await asyncio.gather(
        *(OutputOwners(each).claim("bucket", keys, claim) for each, claim in zip(others, claims, strict=True))
    )
    assert sorted(map(bool, found)) == [False, True, True, True]
    for each in others:
        await each.close()


async def test_names_of_sidecars(database: Database) -> None:
    assert await dropped(database, "w.job.yaml", "w.job.json", "x.mp3") == {
        "w.job.json": "w",
        "w.job.yaml": "w.job.yaml",
        "x.mp3": "x.mp3",
    }
    assert await dropped(database, "w.job.yml") == {"w.job.yml": "w.job.yml"}
    assert await dropped(database, "x.mp3.job.json") == {"x.mp3.job.json": "x.mp3.job.json"}
    assert await dropped(database, "W.job.json") == {"W.job.json": "W"}


async def test_a_name_is_kept_for_every_version_and_every_run(database: Database) -> None:
    await dropped(database, "w.job.json")
    await dropped(database, "w.job.yaml")
    await ended(database, "w.job.yaml")
    again = await settle(database, ("w.job.yaml", SeenVersion("e@2", "v2"), run("w.job.yaml", "r2")))
    assert [row.request["sidecars"] for row in again.started] == ["w.job.yaml"]
    assert await IntakeLedger(database).add_redrive(run("w.job.yaml", "r3"))
    driven = await RunLedger(database).find("r3")
    assert driven
    assert driven.request["sidecars"] == "w.job.yaml"


async def test_a_name_is_free_once_its_drop_is_gone_and_its_runs_are_over(database: Database) -> None:
    await dropped(database, "w.job.json")
    await removed(database, "w.job.json")
    assert await dropped(database, "w.job.yaml") == {"w.job.yaml": "w.job.yaml"}
    await ended(database, "w.job.json")
    assert await dropped(database, "w.job.yml") == {"w.job.yml": "w"}


async def test_a_name_that_is_released_in_that_moment_is_taken(ledger_url: str, database: Database) -> None:
    if ledger_url.startswith("sqlite"):
        pytest.skip("one transaction at a time")
    await dropped(database, "w.job.json")
    await ended(database, "w.job.json")
    other = Database(ledger_url)
    await other.open()

    released: list[str] = []

    def release(*statement: Any) -> None:
        if not released and "FOR UPDATE" in statement[2] and "gpudrop_sidecars" in statement[2]:
            released.append("w")
            with other.begin() as db:
                db.execute(sa.delete(sidecars_table))

    sa.event.listen(sa.Engine, "before_cursor_execute", release)
    try:
        assert await dropped(database, "w.job.yaml") == {"w.job.yaml": "w"}
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", release)
        await other.close()
    assert released


async def test_a_full_name_that_is_another_ones_short_name(database: Database) -> None:
    await dropped(database, "w.job.yaml.job.json")
    await dropped(database, "w.job.json")
    assert await dropped(database, "w.job.yaml") == {"w.job.yaml": "w.job.yaml.2"}


async def test_a_namesake_of_an_earlier_release_keeps_its_name(database: Database) -> None:
    await settle(database, ("w.job.json", SeenVersion("e@1"), None))
    assert await dropped(database, "w.job.yaml") == {"w.job.yaml": "w.job.yaml"}
    again = await settle(database, ("w.job.json", SeenVersion("e@2", "v2"), run("w.job.json", "r2")))
    assert [row.request["sidecars"] for row in again.started] == ["w"]
