"""The durable inbox on each database: nothing told is lost, nothing is looked at for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from listener.events.event import ObjectCreated, ObjectRemoved
from listener.fairness import Bound, share_of
from listener.intake.inbox import AT_ONCE, ROOM, Backlog, DurableInbox, InboxServices
from listener.intake.source_status import SourceStatusRecorder
from listener.ledger.database import Database
from listener.ledger.inbox import InboxEntry, InboxEvent, InboxLedger
from listener.ledger.intake import IntakeDecision, IntakeLedger, KnownObject
from listener.ledger.objects import UNSEEN, ObjectLedger, SeenVersion
from listener.ledger.ownership import KeyClaim, OutputOwners
from listener.ledger.run_rows import RunRow
from listener.ledger.runs import RunLedger
from listener.ledger.sources import SourceLedger
from listener.signals import ObjectWaiters
from listener.stores.base import ObjectMeta
from listener.triggers.triggers import MANIFESTS, TriggerBook, WrittenKeys
from manifests.errors import StoreUnavailable
from support.deadlines import HANG_S

SAW = SeenVersion("e1@1")


def told(key: str, *, created: bool = True, received: float = 1.0) -> InboxEvent:
    return InboxEvent("bucket", key, created, "test", received)


def run(key: str, run_id: str = "") -> RunRow:
    return RunRow(
        run_id or f"run-{key}", "bucket", key, "manifests", "accepted", 1.0, 1.0, request={"key": key, "sidecars": key}
    )


async def held(ledger: InboxLedger, *keys: str) -> list[InboxEntry]:
    return await ledger.add([told(key) for key in keys], hold=True)


async def settle(database: Database, items: Sequence[InboxEntry]) -> frozenset[str]:
    settlements = [IntakeDecision(item, SAW, run(item.event.key)) for item in items]
    started = (await IntakeLedger(database).commit(settlements, reason="cancelled")).started
    return frozenset(row.run_id for row in started)


async def test_a_key_is_in_one_pair_of_hands(database: Database) -> None:
    one, two = InboxLedger(database, "m1"), InboxLedger(database, "m2")
    items = await held(one, "a", "b")
    assert [item.event.key for item in items] == ["a", "b"]
    assert await held(two, "a") == []
    assert await two.claim(10, 100.0) == []


async def test_what_nobody_holds_is_claimed_once_and_oldest_first(database: Database) -> None:
    one, two = InboxLedger(database, "m1"), InboxLedger(database, "m2")
    keys = [told(f"k{i}", received=float(i)) for i in range(6)]
    assert await one.add(keys, hold=False) == []
    first = await one.claim(2, 100.0)
    rest = await two.claim(10, 100.0)
    assert [item.event.key for item in first] == ["k0", "k1"]
    assert [item.event.key for item in rest] == ["k2", "k3", "k4", "k5"]
    assert await one.claim(10, 100.0) == []


async def test_what_was_settled_is_done_with(database: Database) -> None:
    ledger = InboxLedger(database, "m1")
    items = await held(ledger, "a", "b")
    assert await settle(database, items) == {"run-a", "run-b"}
    await ledger.release(["m1"])
    assert await ledger.claim(10, 100.0) == []
    known = await IntakeLedger(database).known("bucket", ["a", "b", "c"])
    assert known == {k: KnownObject(SAW, None, (run(k),)) for k in ("a", "b")}


async def test_what_is_told_again_during_the_look_is_looked_at_again(database: Database) -> None:
    ledger = InboxLedger(database, "m1")
    items = await held(ledger, "a")
    assert await held(ledger, "a") == []
    assert await settle(database, items) == {"run-a"}
    again = await ledger.claim(10, 100.0)
    assert [item.event.key for item in again] == ["a"]
    assert await settle(database, again) == frozenset()
    assert await ledger.claim(10, 100.0) == []


async def test_a_removal_told_beside_a_creation_does_not_hide_it(database: Database) -> None:
    ledger = InboxLedger(database, "m1")
    await ledger.add([told("a", created=False)], hold=False)
    await ledger.add([told("a")], hold=False)
    await ledger.add([told("a", created=False)], hold=False)
    assert [item.event.created for item in await ledger.claim(10, 100.0)] == [True]


async def test_a_failed_look_waits_and_counts(database: Database) -> None:
    ledger = InboxLedger(database, "m1")
    items = await held(ledger, "a")
    await ledger.postpone(items, not_before=50.0)
    assert await ledger.claim(10, 49.0) == []
    assert [item.attempts for item in await ledger.claim(10, 51.0)] == [1]


async def test_a_key_does_not_wait_for_a_clock_that_was_set_back(database: Database) -> None:
    """By an hour, after it was postponed by five minutes."""
    ledger = InboxLedger(database, "m1")
    await ledger.postpone(await held(ledger, "a"), not_before=10_300.0)
    assert await ledger.claim(10, 10_200.0) == []
    assert [item.event.key for item in await ledger.claim(10, 6_400.0)] == ["a"]


async def test_a_key_told_again_does_not_wait_for_its_next_attempt(database: Database) -> None:
    ledger = InboxLedger(database, "m1")
    await ledger.postpone(await held(ledger, "a"), not_before=50.0)
    assert await held(ledger, "a") == []
    assert [item.event.key for item in await ledger.claim(10, 1.0)] == ["a"]


async def test_what_a_gone_listener_held_is_anybodys(database: Database) -> None:
    one, two = InboxLedger(database, "m1"), InboxLedger(database, "m2")
    await held(one, "a")
    assert await two.holders() == {"m1"}
    await two.release(["m1"])
    assert [item.event.key for item in await two.claim(10, 100.0)] == ["a"]
    assert await two.holders() == {"m2"}


async def test_a_newer_run_supersedes_and_a_removal_cancels(database: Database) -> None:
    runs, settling = RunLedger(database), IntakeLedger(database)
    [item] = await held(InboxLedger(database, "m1"), "a")
    await settling.commit([IntakeDecision(item, SAW, run("a", "r1"))], reason="cancelled")
    settled = await settling.commit([IntakeDecision(item, SeenVersion("e2@2"), run("a", "r2"))], reason="cancelled")
    assert ([row.run_id for row in settled.started], settled.superseded) == (["r2"], ("r1",))
    await settling.commit([IntakeDecision(item, UNSEEN, cancel=("r2",))], reason="cancelled")
    assert await runs.ends_requested() == {"r1": "superseded", "r2": "cancelled"}
    assert (await settling.known("bucket", ["a"]))["a"].seen == UNSEEN


async def test_a_removal_leaves_what_a_run_is_about_to_write_its_own(database: Database) -> None:
    """Somebody deletes an old output while a run makes the new one, which must start nothing."""
    objects, settling = ObjectLedger(database), IntakeLedger(database)
    await OutputOwners(database).claim("bucket", ["new.mp4", "old.mp4"], KeyClaim("r1", "a.job.json", 0))
    await objects.record_written("bucket", [ObjectMeta("old.mp4", 1, "e", datetime.fromtimestamp(1, UTC))], "r1")
    items = await held(InboxLedger(database, "m1"), "new.mp4", "old.mp4")
    await settling.commit([IntakeDecision(item, UNSEEN) for item in items], reason="cancelled")
    assert await settling.known("bucket", ["new.mp4", "old.mp4"]) == {
        "new.mp4": KnownObject(written=WrittenKeys("r1", 0, ""))
    }


async def test_accepted_runs_are_claimed_by_one_listener_each(database: Database) -> None:
    runs = RunLedger(database)
    for i in range(5):
        await runs.add(run(f"k{i}"))
    one, two = await asyncio.gather(runs.claim("m1", 3), runs.claim("m2", 3))
    assert {row.member for row in one} == {"m1"}
    assert {row.member for row in two} == {"m2"}
    assert len({row.run_id for row in one + two}) == 5
    assert await runs.members() == {"m1", "m2"}
    await runs.release([row.run_id for row in await runs.claimed("m1")])
    assert len(await runs.claim("m2", 9)) == len(one)


async def test_shares_take_turns_at_being_claimed(database: Database) -> None:
    """Over the claims, too: the flood is older, and larger than any of them."""
    ledger, runs = InboxLedger(database, "m1"), RunLedger(database)
    flood = [told(f"flood/{i % 7}/{i}", received=1.0) for i in range(50)]
    await ledger.add([*flood, *(told(f"other/{i}", received=2.0) for i in range(6))], hold=False)
    keys = [item.event.key for _ in range(3) for item in await ledger.claim(4, 100.0)]
    assert sum(key.startswith("other/") for key in keys) == 6
    for item in await held(ledger, *(f"flood/{i % 7}/x{i}" for i in range(50)), *(f"other/x{i}" for i in range(6))):
        await runs.add(replace(run(item.event.key), share=share_of("bucket", item.event.key)))
    rows = [row.key for _ in range(4) for row in await runs.claim("m1", 1)] + [
        row.key for row in await runs.claim("m1", 8, bounds=[Bound({"bucket/flood/1": 9}, 100)])
    ]
    assert sum(key.startswith("other/") for key in rows) == 6


async def test_a_share_that_may_not_begin_yet_leaves_its_places_to_others(database: Database) -> None:
    runs = RunLedger(database)
    for i in range(3):
        await runs.add(replace(run("a/k", f"r{i}"), accepted=1.0 + i, share="bucket/a"))
        await runs.add(replace(run(f"b/{i}", f"s{i}"), accepted=9.0, share="bucket/b"))
    assert {row.run_id for row in await runs.claim("m1", 4)} == {"r0", "s0", "s1", "s2"}
    assert await runs.claim("m1", 4) == []


@pytest.mark.parametrize("little", ["other/one.job.json", "one.job.json"], ids=["a folder", "the bucket's root"])
async def test_a_full_backlog_takes_what_comes_from_folders_that_hold_little(database: Database, little: str) -> None:
    backlog = Backlog()
    inbox = durable(database, backlog)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        writing = group.create_task(inbox.run())
        flood = [ObjectCreated("bucket", f"flood/{i % 9}/{i}.job.json", "test") for i in range(ROOM)]
        await inbox.accept(flood)
        await inbox.accept([ObjectCreated("bucket", "flood/new/more.job.json", "test")])
        await inbox.accept([ObjectCreated("bucket", little, "test")])
        writing.cancel()
    assert len(backlog) == ROOM + 1
    assert little in [item.event.key for item in backlog.take(2)]


def durable(database: Database, backlog: Backlog, buckets: frozenset[str] = frozenset()) -> DurableInbox:
    source_status = SourceStatusRecorder(SourceLedger(database), "m1", lambda: 1.0)
    ledger, book = InboxLedger(database, "m1"), TriggerBook([MANIFESTS])
    return DurableInbox(
        InboxServices(
            ledger, buckets, book, ObjectWaiters(), source_status, backlog, clock=lambda: 1.0, gap=lambda reason: None
        )
    )


async def test_many_deliveries_at_once_are_all_recorded(database: Database) -> None:
    backlog = Backlog()
    inbox = durable(database, backlog)
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        writing = group.create_task(inbox.run())
        keys = [f"k{i:04}.job.json" for i in range(1000)]
        await asyncio.gather(*(inbox.accept([ObjectCreated("bucket", key, "test")] * 2) for key in keys))
        writing.cancel()
    assert sorted(item.event.key for item in backlog.take(2000)) == keys


async def test_a_delivery_of_thousands_holds_up_no_other_folders(database: Database) -> None:
    """Neither one that comes with it, nor one that comes after it."""
    inbox = durable(database, Backlog())
    flood = [ObjectCreated("bucket", f"flood/{i:04}.job.json", "test") for i in range(8 * AT_ONCE)]
    others = [ObjectCreated("bucket", f"{folder}/a.job.json", "test") for folder in ("with", "after")]
    waiting = InboxLedger(database, "m1").waiting
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        whole = group.create_task(inbox.accept([*flood, others[0]]))
        writing = group.create_task(inbox.run())
        while not await waiting():
            await asyncio.sleep(0)
        await inbox.accept(others[1:])
        assert not whole.done() and await waiting() <= 4 * AT_ONCE
        assert {item.event.key for item in await InboxLedger(database, "m1").held()} >= {each.key for each in others}
        await whole
        writing.cancel()
    assert await waiting() == len(flood) + 2


async def test_what_can_start_nothing_is_not_recorded(database: Database) -> None:
    backlog = Backlog()
    inbox = durable(database, backlog, frozenset({"bucket"}))
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        writing = group.create_task(inbox.run())
        await inbox.accept([ObjectCreated("bucket", key, "test") for key in ("a.png", "b.done.json", "c/", "d//e", "")])
        await inbox.accept([ObjectCreated("elsewhere", "a.job.json", "test")])
        # Its trigger may have gone since it started a run.
        await inbox.accept([ObjectRemoved("bucket", "a.png", "test")])
        writing.cancel()
    assert [item.event.key for item in backlog.take(9)] == ["a.png"]


async def test_a_delivery_that_cannot_be_recorded_is_refused_and_the_next_one_is_not(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    await database.open()
    inbox = durable(database, Backlog())
    event = ObjectCreated("bucket", "a.job.json", "test")
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        writing = group.create_task(inbox.run())
        await database.call(lambda: _rename(database, "gpudrop_inbox", "hidden"))
        with pytest.raises(StoreUnavailable):
            await inbox.accept([event])
        await database.call(lambda: _rename(database, "hidden", "gpudrop_inbox"))
        await inbox.accept([event])
        writing.cancel()
    await database.close()


def _rename(database: Database, old: str, new: str) -> None:
    with database.begin() as db:
        db.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")


async def test_what_a_listing_finds_is_recorded_in_linear_time(tmp_path: Path) -> None:
    """Every key looked up among all would take minutes, and hold up whatever else the ledger is asked."""
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    await database.open()
    async with asyncio.timeout(HANG_S / 4):
        found = await InboxLedger(database, "m1").add([told(f"{i}.job.json") for i in range(40_000)], hold=True)
    assert len(found) == 40_000
    await database.close()
