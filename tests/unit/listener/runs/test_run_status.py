"""NAME.status.json while a run goes on: what stands in it, when it is written, and when it no longer is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gpu_dispatch.backend import JobRef, JobStatus
from gpu_dispatch.task import Progress, TranscribeParams
from handlers.base import Plan, PlannedTask
from listener.dispatch.request import JobRequest
from listener.ledger.database import Database
from listener.ledger.runs import RunLedger
from listener.run_request import RunRequest
from listener.runs.jobs import job_requests
from listener.runs.status import RunStatusWriter, StatusPublisher
from listener.runs.steps import Released
from manifests.errors import StoreUnavailable
from support.deadlines import HANG_S
from support.runs import RunBench

AWAY = StoreUnavailable("It is away.", hint="Wait.")
JOB = JobRef("gpu", "ep", "job-1")


async def nothing_spent(run_id: str) -> None:
    del run_id


@pytest.fixture
async def run(bench: RunBench) -> RunRequest:
    return await bench.drop("in/talk", {"audio": "a.mp3"})


def jobs_of(run: RunRequest, count: int = 2) -> list[JobRequest]:
    task = PlannedTask(TranscribeParams(audio="a"), ())
    return job_requests(run, "transcribe", Plan("transcribe", (task,) * count))


def at(state: Any, percent: float | None = None, stage: str = "") -> JobStatus:
    return JobStatus(state, progress=None if percent is None else Progress(percent, stage))


async def told(bench: RunBench, run: RunRequest, work: Callable[[RunStatusWriter], None]) -> dict[str, Any]:
    """The status that stays when the run is told elsewhere after `work`: then it is written at once."""
    with pytest.raises(Released):
        async with bench.parts.publisher.open(run) as status:
            work(status)
            raise Released
    document = await bench.document(run, "status")
    assert document
    return document


async def test_a_state_is_told_in_the_store_and_in_the_ledger(bench: RunBench, run: RunRequest) -> None:
    def work(status: RunStatusWriter) -> None:
        status.move("accepted", operation="transcribe")
        status.move("waiting", waiting_for=["in/a.mp3"])

    found = await told(bench, run, work)
    assert (found["state"], found["operation"], found["waiting_for"]) == ("waiting", "transcribe", ["in/a.mp3"])
    row = await bench.runs.find(run.run_id)
    assert row and (row.state, row.operation, row.note, row.member) == ("waiting", "transcribe", "in/a.mp3", "m1")


Report = tuple[int, int, JobStatus]
REPORTS: dict[str, tuple[list[Report], dict[str, Any]]] = {
    "in the queue": ([(0, 1, at("queued"))], {"state": "queued", "percent": 0.0, "stage": "", "attempt": 1}),
    "one of two runs": ([(0, 1, at("running", 40, "hears"))], {"state": "running", "percent": 20.0, "stage": "hears"}),
    "one is done": (
        [(0, 1, at("completed")), (1, 1, at("running", 50, "hears"))], {"state": "running", "percent": 75.0},
    ),
    "both are done": ([(0, 1, at("completed")), (1, 1, at("completed"))], {"percent": 99.0}),
    "a step back is not told": ([(0, 1, at("running", 40)), (0, 1, at("running", 10))], {"percent": 20.0}),
    "another attempt begins at nothing": (
        [(0, 1, at("running", 40, "hears")), (0, 2, at("queued"))], {"percent": 0.0, "attempt": 2, "state": "queued"},
    ),
    "its stage stays": ([(0, 1, at("running", 40, "hears")), (0, 1, at("running"))], {"stage": "hears"}),
}  # fmt: skip


@pytest.mark.parametrize("case", REPORTS)
async def test_what_jobs_report_makes_the_runs_status(bench: RunBench, run: RunRequest, case: str) -> None:
    reports, expected = REPORTS[case]

    def work(status: RunStatusWriter) -> None:
        del status
        requests = jobs_of(run)
        for index, attempt, job_status in reports:
            bench.parts.publisher.progress(requests[index], attempt, JOB, job_status)

    found = await told(bench, run, work)
    assert {name: found[name] for name in expected} == expected
    assert found["cost"] == {"usd": 1.25}
    assert [job["id"] for job in found["jobs"]] == ["job-1"] * len({index for index, _, _ in reports})


async def test_why_a_job_or_the_run_waits_is_told_in_words(bench: RunBench, run: RunRequest) -> None:
    def work(status: RunStatusWriter) -> None:
        status.move("queued")
        bench.parts.publisher.waiting(jobs_of(run)[0], ["no endpoint has room"])
        bench.parts.publisher.held(run.run_id, "The store is away.")
        bench.parts.publisher.held(run.run_id, "The store is away.")

    found = await told(bench, run, work)
    assert found["waiting_for"] == ["no endpoint has room", "The store is away."]

    def go_on(status: RunStatusWriter) -> None:
        status.move("queued")
        bench.parts.publisher.progress(jobs_of(run)[0], 1, JOB, at("running", 10))
        bench.parts.publisher.waiting(jobs_of(run)[0], ["not any more"])
        bench.parts.publisher.held(run.run_id, "The store is away.")
        bench.parts.publisher.held(run.run_id, "")

    assert (await told(bench, run, go_on))["waiting_for"] == []


async def test_a_run_that_is_told_nowhere_has_no_status(bench: RunBench, run: RunRequest) -> None:
    board = bench.parts.publisher
    board.progress(jobs_of(run)[0], 1, JOB, at("running"))
    board.waiting(jobs_of(run)[0], ["nothing"])
    await board.close(run.run_id)
    assert await bench.document(run, "status") is None


async def test_once_its_last_word_is_due_the_ledger_alone_tells_what_it_waits_for(
    bench: RunBench, run: RunRequest
) -> None:
    bench.parts.publisher.held(run.run_id, "The store is away.")

    async def noted() -> bool:
        row = await bench.runs.find(run.run_id)
        return bool(row and row.note == "The store is away.")

    await bench.eventually(noted)
    assert await bench.document(run, "status") is None


async def test_a_ledger_that_is_away_then_is_no_reason_to_stop(
    bench: RunBench, run: RunRequest, closed_database: Database
) -> None:
    notes = StatusPublisher(bench.store, RunLedger(closed_database), bench.parts.clock, nothing_spent)
    before = asyncio.all_tasks()
    notes.held(run.run_id, "The store is away.")
    (note,) = asyncio.all_tasks() - before
    await note
    assert note.exception() is None


async def test_a_status_follows_soon_while_the_run_goes_on(bench: RunBench, run: RunRequest) -> None:
    async with bench.parts.publisher.open(run) as status:
        status.move("accepted")
        status.move("accepted")

        async def written() -> bool:
            return await bench.document(run, "status") is not None

        await bench.eventually(written)
        await bench.parts.publisher.close(run.run_id)


async def test_a_status_that_cannot_be_written_stops_nothing(bench: RunBench, run: RunRequest) -> None:
    bench.store.problem("write", run.sidecar("status"), AWAY)
    with pytest.raises(Released):
        async with bench.parts.publisher.open(run) as status:
            status.move("accepted")
            raise Released
    assert await bench.document(run, "status") is None


async def test_a_run_that_is_replaced_has_no_status_any_more(bench: RunBench, run: RunRequest) -> None:
    await bench.runs.request_end(run.run_id, "superseded")
    with pytest.raises(Released):
        async with bench.parts.publisher.open(run) as status:
            status.move("accepted")
            raise Released
    assert await bench.document(run, "status") is None


async def test_a_write_that_lands_after_the_end_is_taken_back(bench: RunBench, run: RunRequest) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        began.set()
        await go_on.wait()

    bench.store.before["write", run.sidecar("status")] = slow
    async with bench.parts.publisher.open(run) as status:
        status.move("accepted")
        await asyncio.wait_for(began.wait(), HANG_S)
        closing = asyncio.ensure_future(bench.parts.publisher.close(run.run_id))
        await asyncio.sleep(0)
        go_on.set()
        await closing
    assert await bench.document(run, "status") is None


async def test_when_the_program_ends_no_write_goes_on(bench: RunBench, run: RunRequest) -> None:
    began = asyncio.Event()

    async def never() -> None:
        began.set()
        await asyncio.Event().wait()

    bench.store.before["write", run.sidecar("status")] = never
    async with bench.parts.publisher.open(run) as status:
        status.move("accepted")
        await asyncio.wait_for(began.wait(), HANG_S)
        await bench.parts.publisher.end()
    assert await bench.document(run, "status") is None


async def test_a_state_that_stays_is_recorded_once(bench: RunBench, run: RunRequest) -> None:
    job = jobs_of(run, 1)[0]
    async with bench.parts.publisher.open(run) as status:
        status.move("running", operation="transcribe")

        async def recorded() -> bool:
            row = await bench.runs.find(run.run_id)
            return bool(row and row.state == "running")

        await bench.eventually(recorded)
        # Whoever sets it back meanwhile is not overruled by a percentage.
        await bench.runs.update(run.run_id, state="queued", at=bench.moment())
        bench.parts.publisher.progress(job, 1, JOB, at("running", 40))

        async def told() -> bool:
            document = await bench.document(run, "status")
            return bool(document and document["percent"] == 40.0)

        await bench.eventually(told)
    assert await bench.state(run) == "queued"
