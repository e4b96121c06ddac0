"""Accepted runs are begun when there is room, those that wait for their inputs once these are there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from listener.fairness import share_of
from listener.ledger.database import Database
from listener.ledger.input_waits import InputWaitLedger
from listener.ledger.runs import RunLedger
from listener.run_request import RunRequest
from listener.runs.admission import Admission
from listener.runs.engine_base import Workflows
from listener.runs.input_waiters import InputWaiters
from listener.runs.memory_engine import MemoryEngine, RecordedRun, Records
from listener.runs.scheduler import RunScheduler
from listener.runs.steps import Steps
from manifests.errors import InputMissing, StoreUnavailable
from support.runs import BUCKET, RunBench


class Held:
    """A story that goes on until it is let go, and gives its place back then."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.begun: list[str] = []
        self.go_on: dict[str, asyncio.Event] = {}

    async def run(self, request: Any, steps: Steps) -> None:
        del steps
        self.begun.append(request["key"])
        try:
            await self.go_on.setdefault(request["key"], asyncio.Event()).wait()
        finally:
            self._admission.ended(request["run_id"])

    async def job(self, request: Any, steps: Steps) -> Any: ...

    def end(self, key: str) -> None:
        self.go_on[key].set()


@asynccontextmanager
async def working(*works: Coroutine[Any, Any, Any]) -> AsyncIterator[tuple[asyncio.Task[Any], ...]]:
    tasks = tuple(asyncio.ensure_future(work) for work in works)
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def scheduler(
    bench: RunBench, story: Workflows, records: Records | None = None, *, limit: int = 2, parked: int = 0,
    runs: RunLedger | None = None, **released: Any,
) -> tuple[RunScheduler, MemoryEngine, asyncio.Event]:  # fmt: skip
    wanted = asyncio.Event()
    engine = MemoryEngine(story, records, ended=wanted.set, clock=bench.moment, **released)
    starter = RunScheduler(
        runs or bench.runs, engine, wanted, member="m1", limit=limit, parked=lambda: parked,
        admission=bench.parts.admission, idle=lambda: {share_of(BUCKET, "one/talk"): parked}, clock=bench.moment,
    )  # fmt: skip
    return starter, engine, wanted


async def drops(bench: RunBench, *names: str, member: str = "") -> list[RunRequest]:
    found: list[RunRequest] = []
    for name in names:
        found.append(await bench.drop(f"{name}/talk", {"audio": "a.mp3"}, member=member))
        bench.moment.now += 1.0
    return found


async def test_as_many_are_told_as_there_is_room_for(bench: RunBench) -> None:
    one, two, three = await drops(bench, "a", "b", "c")
    story = Held(bench.parts.admission)
    starter, engine, _ = scheduler(bench, story)
    async with working(starter.run()):
        await bench.until(lambda: len(story.begun) == 2)
        assert story.begun == [one.key, two.key]
        await bench.until(lambda: bench.parts.admission.is_full())
        story.end(one.key)
        await bench.until(lambda: len(story.begun) == 3)
        assert (story.begun[2], engine.is_running(one.run_id), engine.is_running(three.run_id)) == (
            three.key,
            False,
            True,
        )
        assert await bench.runs.waiting() == 0
    await engine.close()


async def test_those_that_only_wait_for_an_endpoint_hold_nobody_up(bench: RunBench) -> None:
    await drops(bench, "one", "two")
    story = Held(bench.parts.admission)
    starter, engine, _ = scheduler(bench, story, limit=1, parked=1)
    async with working(starter.run()):
        await bench.until(lambda: len(story.begun) == 2)
    await engine.close()


async def test_no_more_are_begun_side_by_side_than_go_on_well(bench: RunBench) -> None:
    await drops(bench, *map(str, range(8)))
    story = Held(bench.parts.admission)
    starter, engine, _ = scheduler(bench, story, limit=100)
    async with working(starter.run()):
        await bench.until(lambda: len(story.begun) == 6)
        await bench.until(lambda: bench.parts.admission.is_full())
        assert (bench.parts.admission.room, len(story.begun)) == (0, 6)
    await engine.close()


async def test_what_was_claimed_in_an_earlier_life_is_begun_first_and_only_once(bench: RunBench) -> None:
    known, lost = await drops(bench, "known", "lost", member="m1")
    story = Held(bench.parts.admission)
    records: Records = {known.run_id: RecordedRun({"key": known.key, "run_id": known.run_id}, "local")}
    starter, engine, _ = scheduler(bench, story, records)
    await engine.start()
    async with working(starter.run()):
        await bench.until(lambda: len(story.begun) == 2)
        assert sorted(story.begun) == [known.key, lost.key]
    await engine.close()


async def test_what_another_version_left_unfinished_is_told_from_the_top(bench: RunBench) -> None:
    (run,) = await drops(bench, "old", member="m1")
    await bench.runs.update(run.run_id, state="running", at=bench.moment())
    records: Records = {run.run_id: RecordedRun("what nobody understands", "local", version="1")}
    story = Held(bench.parts.admission)
    starter, engine, _ = scheduler(bench, story, records)
    await engine.start()
    assert engine.running == 0
    async with working(starter.run()):
        await bench.until(lambda: story.begun)
        assert story.begun == [run.key]
        assert await bench.state(run) == "accepted"
    await engine.close()


async def test_a_run_that_the_engine_knows_takes_no_place(bench: RunBench) -> None:
    (run,) = await drops(bench, "over", member="m1")
    records: Records = {run.run_id: RecordedRun({}, "local", fate="over")}
    starter, engine, _ = scheduler(bench, Held(bench.parts.admission), records)
    (later,) = await drops(bench, "later")
    async with working(starter.run()):
        await bench.until(lambda: engine.is_running(later.run_id))
        assert bench.parts.admission.room == 5
    await engine.close()


async def test_a_ledger_that_is_away_ends_nothing(
    bench: RunBench, closed_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("listener.runs.scheduler._RETRY_S", 0.0)
    await drops(bench, "one")
    starter, engine, _ = scheduler(bench, Held(bench.parts.admission), runs=RunLedger(closed_database))
    with capture_logs() as logs:
        async with working(starter.run()) as (task,):
            await bench.until(lambda: [entry["event"] for entry in logs].count("runs_not_started") > 1)
            assert not task.done() and engine.running == 0


# Runs that wait for their inputs are told nowhere meanwhile.


@asynccontextmanager
async def waiting(bench: RunBench, *names: str, **changes: Any) -> AsyncIterator[list[RunRequest]]:
    """Runs that have left the engine because their inputs are not there, with all that brings them back."""
    bench.parts.admission.full = True
    runs = [await bench.drop(f"in/{name}", {"audio": f"{name}.mp3"}, member="", **changes) for name in names]
    wanted = asyncio.Event()
    waits = InputWaitLedger(bench.database)
    waiters = InputWaiters(
        waits, bench.store, bench.arrivals, member="m1", accepted=wanted.set, clock=bench.parts.clock
    )
    engine = MemoryEngine(bench.story, ended=wanted.set, released=waiters.released, clock=bench.moment)
    starter = RunScheduler(
        bench.runs, engine, wanted, member="m1", limit=len(names), parked=lambda: 0,
        admission=bench.parts.admission, clock=bench.moment,
    )  # fmt: skip

    async def left() -> bool:
        return await waits.count() == len(names)

    async with working(starter.run(), waiters.run(engine)):
        await bench.eventually(left)
        yield runs
    await engine.close()


async def ended(bench: RunBench, run: RunRequest, *, hurry_s: float = 0.0) -> str:
    async def over() -> bool:
        bench.moment.now += hurry_s
        row = await bench.runs.find(run.run_id)
        return bool(row and row.ended)

    await bench.eventually(over)
    return await bench.state(run)


async def test_an_event_brings_a_waiting_run_back(bench: RunBench) -> None:
    async with waiting(bench, "talk") as (run,):
        row = await bench.runs.find(run.run_id)
        assert row and (row.state, row.member, row.note) == ("waiting", "", "in/talk.mp3")
        await bench.put("in/talk.mp3")
        bench.arrivals.report(BUCKET, "in/talk.mp3")
        assert await ended(bench, run) == "done"
    assert bench.attempts.made == [(0, 1)]


async def test_without_an_event_it_is_looked_for(bench: RunBench) -> None:
    async with waiting(bench, "talk") as (run,):
        await bench.put("in/talk.mp3")
        assert await ended(bench, run, hurry_s=0.5) == "done"


async def test_a_waiting_run_ends_when_its_time_is_over(bench: RunBench) -> None:
    async with waiting(bench, "talk", wait_for_inputs_s=30.0) as (run,):
        bench.moment.now += 31.0
        assert await ended(bench, run) == "failed"
    assert (await bench.failed(run))["code"] == InputMissing.code


async def test_a_waiting_run_ends_when_it_is_cancelled(bench: RunBench) -> None:
    async with waiting(bench, "talk") as (run,):
        await bench.runs.request_end(run.run_id, "cancelled")
        bench.parts.cancellations.request(run.run_id, "cancelled")
        assert await ended(bench, run, hurry_s=0.5) == "cancelled"


async def test_a_store_that_is_away_says_nothing_of_an_input(bench: RunBench) -> None:
    async with waiting(bench, "talk") as (run,):
        bench.store.problem("head", "in/talk.mp3", StoreUnavailable("It is away."), times=2)
        await bench.put("in/talk.mp3")
        assert await ended(bench, run, hurry_s=0.5) == "done"


def test_a_place_is_known_to_be_free_once(bench_freed: tuple[Admission, list[int]]) -> None:
    admission, freed = bench_freed
    admission.starting("r", "share")
    admission.started("r")
    admission.started("r")
    assert len(freed) == 1
    admission.ended("r")
    assert len(freed) == 2


@pytest.fixture
def bench_freed() -> tuple[Admission, list[int]]:
    freed: list[int] = []
    return Admission(lambda: freed.append(1), now=lambda: 0.0), freed
