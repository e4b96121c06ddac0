"""How attempts end that do not end by themselves: cancels nobody takes, silence, defects, clocks, parts of one run."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from gpu_dispatch.task import GpuResult
from gpu_dispatch.worker.job import ExecutionOutcome
from gpu_dispatch.worker.serverless import wire
from listener.clock import Clock
from listener.ledger.intake import IntakeLedger
from listener.ledger.redrives import RedriveLedger
from listener.ledger.run_rows import RunRow
from listener.ledger.runs import RunLedger
from listener.runs.commands import watch_commands
from listener.runs.jobs import JobRunner
from listener.signals import Cancellations
from manifests.errors import StoreDenied
from support.attempts import Bench, Opened, Told
from support.deadlines import HANG_S
from support.runpod.faults import Fault, empty, failing, hang, html, reset, reset_mid_body, slow, too_many

pytestmark = pytest.mark.minio

HASTY = {"call_timeout_s": 0.3, "submit_s": 0.3}

CANCELS = {
    "429": too_many(),
    "500": failing(500),
    "a page": html(502),
    "a page that looks well": html(200),
    "nothing": empty(),
    "a reset": reset(),
    "half an answer": reset_mid_body(),
    "silence": hang(),
    "silence, though it was taken": hang(taken=True),
    "an answer after the deadline": slow(1.0),
    "a refused key": Fault(401),
}


async def outcomes(bench: Bench) -> list[tuple[str, str]]:
    return [(row.state, row.outcome) for row in await bench.ledger.of_attempt("run-j0", 1)]


@pytest.mark.parametrize("fault", CANCELS.values(), ids=CANCELS.keys())
async def test_a_job_ends_though_its_cancel_is_answered_with(opened: Opened, fault: Fault) -> None:
    """Again and again: then its claim, taken from it, ends it. The user is told what was asked for: it is cancelled."""
    bench = await opened(client=HASTY, retry_for_s=0.5)
    request = bench.request(model="patient")
    running = asyncio.create_task(bench.tried(request))
    job = await bench.take("one")
    working = asyncio.create_task(bench.work("one", job))
    bench.provider.faults.on("cancel", fault, times=None)
    bench.cancellations.request(request.run_id, "cancelled")
    tried = await running
    assert tried.error and (tried.error.code, tried.error.message) == ("cancelled", "The run was cancelled.")
    assert bench.provider.of("cancel")
    assert await working == "cancelled"
    assert await outcomes(bench) == [("ended", "cancelled")]


async def test_a_cancel_is_repeated_until_it_is_taken(opened: Opened) -> None:
    bench = await opened(client=HASTY)
    request = bench.request()
    running = asyncio.create_task(bench.tried(request))
    await bench.at["one"].until(lambda: bench.at["one"].jobs)
    faults = [failing(500), html(502), reset(), hang()]
    for fault in faults:
        bench.provider.faults.on("cancel", fault)
    bench.cancellations.request(request.run_id, "cancelled")
    await running
    assert bench.at["one"].job().status == "CANCELLED"
    assert len(bench.provider.of("cancel")) == len(faults) + 1


async def test_of_a_job_that_nothing_ends_the_user_is_told(opened: Opened) -> None:
    bench = await opened("whisper-hub", retry_for_s=0.2)
    request = bench.request(model="base")
    running = asyncio.create_task(bench.tried(request))
    job = await bench.take("one")
    bench.provider.faults.on("cancel", failing(500), times=None)
    bench.cancellations.request(request.run_id, "cancelled")
    tried = await running
    assert tried.error and tried.error.code == "cancelled"
    assert job.id in tried.error.hint and "console" in tried.error.hint
    assert await outcomes(bench) == [("ended", "cancelled")]


@pytest.mark.parametrize("taken", [True, False])
async def test_a_submission_nobody_answers_in_time_is_settled(opened: Opened, taken: bool) -> None:
    bench = await opened(client=HASTY)
    request = bench.request()
    bench.provider.faults.on("run", hang(taken=taken))
    first = await bench.tried(request)
    assert first.error and (first.error.code, first.error.retryable, first.counts) == ("submit_unknown", True, False)
    if taken:
        assert await bench.work("one", await bench.take("one"), told=False) == "cancelled"
    second = asyncio.create_task(bench.tried(request, 2, (first,)))
    assert await bench.work("one", await bench.take("one")) == ""
    assert (await second).result


async def test_a_status_that_comes_after_every_deadline_is_asked_for_until_it_comes(opened: Opened) -> None:
    bench = await opened(client=HASTY)
    bench.provider.faults.on("status", hang(), times=3)
    running = asyncio.create_task(bench.tried(bench.request()))
    assert await bench.work("one", await bench.take("one")) == ""
    assert (await running).result
    assert len(bench.at["one"].jobs) == 1


async def test_a_defect_leaves_no_job_behind(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("listener.dispatch.supervisor.ENDING_S", 0.1)
    bench = await opened()
    request = bench.request(model="patient")

    def broken(*_: object) -> None:
        raise KeyError("a defect")

    bench.observer = broken
    tried = await bench.tried(request)
    assert tried.error and (tried.error.code, tried.error.retryable) == ("worker_error", False)
    assert "listener's log" in tried.error.hint
    assert bench.at["one"].job().status == "CANCELLED"
    assert await bench.withdrawn(request)
    assert await outcomes(bench) == [("ended", "worker_error")]
    assert bench.pool._open["one"] == 0  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("broken", [False, True], ids=["", "whose threads are gone already"])
async def test_a_program_that_ends_leaves_its_jobs_as_they_are(opened: Opened, broken: bool) -> None:
    bench = await opened()
    request = bench.request()
    heard = asyncio.Event()

    def told(*_: object) -> None:
        heard.set()
        if broken:
            raise RuntimeError("cannot schedule new futures after shutdown")

    bench.observer = told
    running = asyncio.create_task(bench.tried(request))
    await asyncio.wait_for(heard.wait(), HANG_S)
    await asyncio.sleep(0.2)
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    assert bench.at["one"].job().status == "IN_QUEUE" and not bench.provider.of("cancel")
    assert [state for state, _ in await outcomes(bench)] == ["sent"]
    assert not await bench.withdrawn(request)


@pytest.mark.parametrize("jump_s", [864_000.0, -864_000.0])
async def test_a_clock_that_jumps_ends_no_job_and_costs_nothing(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    monkeypatch.setattr("listener.dispatch.watchdog.CHECK_INTERVAL_S", 0.1)
    bench = await opened(usd_per_s=1.0, max_queue_s=600.0)
    jumped, heard = 0.0, asyncio.Event()

    def told(request: object, attempt: int, job: object, status: Any) -> None:
        del request, attempt, job
        if status.state == "running":
            heard.set()

    bench.clock, bench.observer = Clock(lambda: time.time() + jumped), told
    request = bench.request()
    running = asyncio.create_task(bench.tried(request))
    await bench.take("one")
    await asyncio.wait_for(heard.wait(), HANG_S)
    jumped = jump_s
    await asyncio.sleep(1.5)
    bench.cancellations.request(request.run_id, "cancelled")
    tried = await running
    assert tried.error and tried.error.code == "cancelled", "nothing else had ended it"
    (row,) = await bench.ledger.of_attempt(request.task_id, 1)
    assert 0 < row.execution_ms < 60_000 and 0.0 < row.usd < 60.0


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_end_that_was_asked_for_and_forgotten_leaves_nobody_turning_in_circles(
    opened: Opened, at_once: bool
) -> None:
    """A run's other listener may forget it while the store, away, keeps a job's course from hearing of it."""
    bench = await opened()
    request, looks, heard = bench.request(), 0, asyncio.Event()

    def now() -> float:
        nonlocal looks
        looks += 1
        return time.monotonic()

    def told(*_: object) -> None:
        heard.set()

    bench.now, bench.observer = now, told
    running = asyncio.create_task(bench.tried(request))
    job = await bench.take("one")
    await asyncio.wait_for(heard.wait(), HANG_S)
    bench.cancellations.request(request.run_id, "cancelled")
    if not at_once:
        await asyncio.sleep(0)
    bench.cancellations.forget(request.run_id)
    await asyncio.sleep(0.5)
    assert looks < 20
    bench.cancellations.request(request.run_id, "cancelled")
    tried = await running
    assert tried.error and tried.error.code == "cancelled"
    assert job.status == "CANCELLED"


async def test_a_run_told_from_the_top_finds_results_that_the_provider_has_forgotten(opened: Opened) -> None:
    """Its results are on record with an engine that nobody understands any more; nothing is paid for again."""
    bench = await opened()
    request = bench.request()
    running = asyncio.create_task(bench.tried(request))
    job = await bench.take("one")
    assert await bench.work("one", job) == ""
    first = await running
    await bench.reaper.retire(request, 1, alone=first.alone)
    bench.at["one"].expire(job)
    again = await bench.tried(request)
    assert again.result and first.result and again.result.payload == first.result.payload
    assert len(bench.provider.of("run")) == 1
    assert await bench.work("one", job, told=False) == "cancelled", "its claim stays withdrawn"
    await bench.reaper.delete_answer(request.bucket, request.task_id, 1, claimed=False)
    assert await bench.claims.answer(request, 1) is None


async def test_when_the_job_that_holds_the_claim_fails_nobody_waits_for_a_queued_one(opened: Opened) -> None:
    bench = await opened(hedge_after_s=0.5)
    running = asyncio.create_task(bench.tried(bench.request(model="break")))
    await bench.at["two"].until(lambda: bench.at["two"].jobs)
    assert await bench.work("two", await bench.take("two")) == "worker_error"
    tried = await running
    assert tried.error and tried.error.code == "worker_error"
    assert bench.at["one"].job().status == "CANCELLED"
    assert sorted(await outcomes(bench)) == [("ended", "worker_error"), ("ended", "worker_error")]


async def test_a_part_that_another_listener_tells_ends_when_one_has_failed_for_good(opened: Opened) -> None:
    """It may be between two attempts then, or at work: both are over at once, and stay so."""
    here = await opened()
    there = replace(here, cancellations=Cancellations())
    runs = RunLedger(here.database)
    await runs.add(RunRow("run", here.store.buckets[0], "k", "t", "queued", time.time(), time.time(), {}))
    commands = asyncio.create_task(
        watch_commands(
            runs,
            RedriveLedger(here.database),
            IntakeLedger(here.database),
            there.cancellations,
            accepted=lambda: None,
            clock=time.time,
        )
    )
    failing_part = replace(here.request(model="break"), count=2, max_attempts=1)
    other_part = replace(there.request(model="patient"), index=1, count=2)
    other = asyncio.create_task(runner(there, runs).run(other_part, Told()))
    working = asyncio.create_task(there.work("one", await there.take("one")))
    failed = asyncio.create_task(runner(here, runs).run(failing_part, Told()))
    assert await here.work("one", await here.take("one")) == "worker_error"
    assert (await failed).error
    async with asyncio.timeout(HANG_S):
        outcome = await other
    assert outcome.error and outcome.error.code == "cancelled" and "Another job" in outcome.error.message
    assert await working == "cancelled"
    for _ in range(4):
        there.cancellations.retain((await runs.ends_requested()).keys())
    assert there.cancellations.reason("run") == "incomplete", (
        "a part that waits for its next attempt must hear of it, too"
    )
    (again,) = await runs.reclaim(["run"], "me")
    assert again.cancel == "", "told from the top it is a run like any other"
    commands.cancel()


def runner(bench: Bench, runs: RunLedger) -> JobRunner:
    return JobRunner(bench.attempts, bench.reaper, bench.cancellations, runs, bench.outages)


async def test_an_attempt_that_the_store_did_not_serve_is_over_once_the_store_takes_a_write(opened: Opened) -> None:
    """Its claim is withdrawn then, and another attempt may follow."""
    bench = await opened()
    request = bench.request()
    running = asyncio.create_task(bench.tried(request))
    job = await bench.take("one")
    await bench.claim(request, job.id)
    refused = GpuResult(request.task_id, error=StoreDenied("The links may not be used.").info)
    body = wire(ExecutionOutcome(refused))
    bench.at["one"].report("worker-one", job.id, {"output": {"result": body["result"]}, "error": body["error"]})
    tried = await running
    assert tried.error and tried.error.code == "store_denied" and tried.unserved
    assert await bench.withdrawn(request)
    again = asyncio.create_task(bench.tried(request, 2, (tried,)))
    assert await _worked(bench) == ""
    assert (await again).result


async def _worked(bench: Bench) -> str:
    """What comes of the next job, wherever it is."""
    async with asyncio.timeout(HANG_S):
        while not (at := [n for n, e in bench.at.items() if any(not job.taken for job in e.jobs.values())]):
            await asyncio.sleep(0.02)
    return await bench.work(at[0], await bench.take(at[0]))
