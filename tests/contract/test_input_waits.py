"""Runs that wait for their inputs, in the ledger of both databases: who is due, and what several listeners do."""

from __future__ import annotations

import asyncio

import pytest

from listener.ledger.database import Database
from listener.ledger.input_waits import LEASE_S, MAX_PAUSE_S, InputWait, InputWaitLedger
from listener.ledger.run_rows import RunRow
from listener.ledger.runs import RunLedger


async def waiting(database: Database, *names: str, due: float = 10.0) -> InputWaitLedger:
    """Runs of these names wait for an object of the same name and for one of all."""
    runs, waits = RunLedger(database), InputWaitLedger(database)
    for name in names:
        share = f"b/{name.rpartition('/')[0]}"
        await runs.add(RunRow(name, "b", name, "t", "accepted", 1.0, 1.0, {}, member="m1", share=share))
    begin = [InputWait(name, (("b", f"{name}.mp3"), ("b", "all.mp3")), f"{name}.mp3", due) for name in names]
    await waits.begin(begin, "m1")
    return waits


async def found(waits: InputWaitLedger, now: float, limit: int = 9) -> set[str]:
    return {each.row.run_id for each in await waits.due(limit, now)}


async def test_a_run_waits_in_nobodys_hands_until_it_is_due(database: Database) -> None:
    waits, runs = await waiting(database, "x/one"), RunLedger(database)
    row = await runs.find("x/one")
    assert row and (row.state, row.member, row.note) == ("waiting", "", "x/one.mp3")
    assert await runs.claim("m1", 9) == [] and await runs.handed_over() == []
    assert await found(waits, 9.0) == set()
    (due,) = await waits.due(9, 10.0)
    assert set(due.objects) == {("b", "x/one.mp3"), ("b", "all.mp3")}
    await waits.record_examined({}, {"x/one": 20.0})
    assert (await found(waits, 19.0), await waits.count()) == (set(), 1)
    await waits.record_examined({"x/one": {"waited": 1.0}}, {})
    (claimed,) = await runs.claim("m2", 9)
    assert (claimed.run_id, claimed.request) == ("x/one", {"waited": 1.0})
    assert await waits.objects_arrived([("b", "all.mp3")]) == 0


async def test_an_object_wakes_those_that_wait_for_it(database: Database) -> None:
    waits = await waiting(database, "x/one", "x/two", due=100.0)
    assert await waits.objects_arrived([("b", "x/two.mp3"), ("b", "other"), ("c", "x/one.mp3")]) == 1
    assert await found(waits, 0.0) == {"x/two"}
    assert await waits.objects_arrived([("b", "all.mp3")]) == 2


async def test_what_is_told_during_a_look_is_looked_at_again(database: Database) -> None:
    waits = await waiting(database, "x/one")
    assert await found(waits, 10.0) == {"x/one"}
    await waits.objects_arrived([("b", "x/one.mp3")])
    await waits.record_examined({}, {"x/one": 20.0})
    assert await found(waits, 11.0) == {"x/one"}


async def test_a_look_that_never_ends_is_taken_over(database: Database) -> None:
    waits = await waiting(database, "x/one")
    one, two = await asyncio.gather(found(waits, 10.0), found(InputWaitLedger(database), 10.0))
    assert one | two == {"x/one"} and not one & two
    assert await found(waits, 10.0 + LEASE_S) == {"x/one"}


async def test_a_clock_that_was_set_back_puts_nothing_off(database: Database) -> None:
    waits = await waiting(database, "x/one", due=10_000.0)
    assert await found(waits, 9_000.0 - MAX_PAUSE_S) == {"x/one"}


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_run_that_is_to_end_is_due_at_once(database: Database, when: str) -> None:
    runs = RunLedger(database)
    await runs.add(RunRow("r", "b", "k", "t", "accepted", 1.0, 1.0, {}, member="m1"))
    waits = InputWaitLedger(database)
    if when == "before":
        await runs.request_end("r", "cancelled")
    await waits.begin([InputWait("r", (), "", 100.0)], "m1")
    if when == "meanwhile":
        await runs.request_end("r", "cancelled")
    (due,) = await waits.due(9, 1.0)
    assert due.row.cancel == "cancelled"


async def test_what_has_ended_or_is_another_listeners_does_not_wait(database: Database) -> None:
    runs, waits = RunLedger(database), InputWaitLedger(database)
    for name in ("ended", "theirs"):
        await runs.add(RunRow(name, "b", name, "t", "accepted", 1.0, 1.0, {}, member="m1"))
    await runs.update("ended", state="done", at=2.0)
    await runs.reclaim(["theirs"], "m2")
    await waits.begin([InputWait(name, (("b", "k"),), "", 0.0) for name in ("ended", "theirs")], "m1")
    assert (await waits.count(), await found(waits, 1.0)) == (0, set())


async def test_shares_take_turns_at_being_looked_at(database: Database) -> None:
    waits = await waiting(database, *(f"flood/{i}" for i in range(20)))
    await waiting(database, "other/1", due=10.5)
    assert "other/1" in await found(waits, 11.0, limit=2)


async def test_what_nobody_waits_for_any_more_is_forgotten(database: Database) -> None:
    waits, runs = await waiting(database, "x/one", "x/two"), RunLedger(database)
    await runs.update("x/one", state="done", at=2.0)
    await waits.tidy()
    assert await waits.objects_arrived([("b", "all.mp3")]) == 1
