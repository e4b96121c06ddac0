"""Attempts in the corners: what an earlier life left, second jobs of unknown fate, endpoints that are gone, money."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpu_dispatch.backend import JobRef
from gpu_dispatch.task import Clip, Img2VidParams
from gpu_dispatch.wire import task_to_wire
from handlers.base import PlannedTask, TaskTarget
from listener.clock import Clock
from listener.dispatch.claim_reaper import sweep_claims
from listener.dispatch.request import AttemptResult, JobRequest
from listener.ledger.quotas import QuotaLimits
from manifests.errors import JobLost, UnusableKey
from support.attempts import LINK_S, Bench, Opened
from support.deadlines import HANG_S
from support.runpod.faults import Fault, reset, slow, too_many

pytestmark = pytest.mark.minio

SHAPES = Path(__file__).parents[1] / "support" / "runpod_shapes" / "whisper-hub.json"
TOLD = json.loads(SHAPES.read_text())["words"]["output"]
"""What a worker of dialect whisper-hub answers."""


async def open_rows(bench: Bench) -> list[str]:
    return [row.entry for row in await bench.ledger.open_rows()]


async def sent_before(bench: Bench, request: JobRequest) -> Any:
    """A job that an earlier life sent and put on record."""
    job = bench.at["one"].submit(
        {"input": {"task": await _task(bench, request)}, "policy": {"executionTimeout": 60_000}}
    )
    await bench.row(request, state="sent", job_id=job.id)
    return job


Queued = tuple[Bench, JobRequest, Any]


@pytest.fixture
async def queued(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> Queued:
    """A job of an earlier life that waits for a worker at endpoint "one", and is looked at often."""
    monkeypatch.setattr("listener.dispatch.watchdog.CHECK_INTERVAL_S", 0.1)
    bench = await opened()
    request = bench.request()
    return bench, request, await sent_before(bench, request)


async def _task(bench: Bench, request: JobRequest) -> Any:
    return task_to_wire(await bench.tasks.task(request, 1, timeout_s=60.0, claims=True))


async def test_a_run_that_was_cancelled_while_nobody_listened_has_its_job_cancelled(opened: Opened) -> None:
    bench = await opened()
    request = bench.request()
    job = await sent_before(bench, request)
    bench.cancellations.request(request.run_id, "cancelled")
    tried = await bench.tried(request)
    assert tried.error and tried.error.code == "cancelled"
    assert job.status == "CANCELLED"
    assert await bench.withdrawn(request)
    assert await open_rows(bench) == []


async def test_a_second_job_of_unknown_fate_is_sent_once_and_never_works_after_the_first(opened: Opened) -> None:
    bench = await opened(hedge_after_s=0.1)
    bench.provider.faults.on("run", reset(taken=True), endpoint="two", times=3)
    request = bench.request()
    running = asyncio.create_task(bench.tried(request))
    await bench.at["two"].until(lambda: bench.at["two"].jobs)
    await asyncio.sleep(2.0)
    assert len(bench.at["two"].jobs) == 1
    assert await bench.work("one", await bench.take("one")) == ""
    tried = await running
    assert tried.result
    if tried.marks:
        await bench.reaper.retire(request, 1, alone=tried.alone)
    late = await bench.take("two")
    assert await bench.work("two", late, told=False) == "cancelled", "the claim is withdrawn once the work is done"
    assert await open_rows(bench) == []


async def test_a_second_job_of_unknown_fate_that_begins_is_followed(opened: Opened) -> None:
    bench = await opened(hedge_after_s=0.1, max_queue_s=3.0)
    bench.provider.faults.on("run", reset(taken=True), endpoint="two", times=1)
    running = asyncio.create_task(bench.tried(bench.request()))
    await bench.at["two"].until(lambda: bench.at["two"].jobs)
    assert await bench.work("two", await bench.take("two")) == ""
    tried = await running
    assert tried.result and tried.job and tried.job.backend == "two"
    assert await open_rows(bench) == []


async def test_a_second_job_waits_for_no_place_and_goes_to_no_endpoint_twice(opened: Opened) -> None:
    bench = await opened(hedge_after_s=0.1)
    places = bench.pool._endpoints  # pyright: ignore[reportPrivateUsage]
    places["two"] = replace(places["two"], spec=replace(places["two"].spec, concurrency=1))
    other = bench.request("other")
    row = replace(await bench.row(other, state="sent", job_id="x"), entry="elsewhere", endpoint="two", task_id="o")
    assert await bench.ledger.reserve(row, QuotaLimits(None, None, None)) is None
    running = asyncio.create_task(bench.tried(bench.request()))
    await bench.at["one"].until(lambda: bench.at["one"].jobs)
    await asyncio.sleep(1.5)
    assert await bench.work("one", await bench.take("one")) == ""
    assert (await running).result
    assert len(bench.at["one"].jobs) == 1 and not bench.at["two"].jobs


async def test_a_task_that_cannot_be_made_leaves_no_row(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await opened()

    async def unusable(*_: object) -> Any:
        raise UnusableKey("no")

    monkeypatch.setattr(type(bench.claims), "claim_urls", unusable)
    tried = await bench.tried(bench.request())
    assert tried.error and tried.error.code == "unusable_key"
    assert await open_rows(bench) == []


@pytest.mark.parametrize("answered", [True, False])
async def test_a_job_at_an_endpoint_that_nobody_can_ask_is_not_done_twice(opened: Opened, answered: bool) -> None:
    bench = await opened(keyed=False)
    request = bench.request()
    job = await sent_before(bench, request)
    taken = await bench.take("one")
    if answered:
        assert await bench.work("one", taken, told=False) == ""
    del bench.pool._endpoints["one"]  # pyright: ignore[reportPrivateUsage]
    tried = await bench.tried(request)
    assert await open_rows(bench) == []
    assert not bench.at["two"].jobs
    if answered:
        assert tried.result and tried.job and tried.job.job_id == job.id
        return
    assert tried.error and tried.error.code == "job_lost" and tried.error.retryable
    assert await bench.work("one", taken, told=False) == "cancelled"


async def test_a_job_that_runs_at_an_endpoint_not_configured_any_more_is_followed_to_its_end(opened: Opened) -> None:
    bench = await opened("whisper-hub")
    request = bench.request(model="base")
    job = await sent_before(bench, request)
    await bench.take("one")
    del bench.pool._endpoints["one"]  # pyright: ignore[reportPrivateUsage]
    running = asyncio.create_task(bench.tried(request))
    await asyncio.sleep(2.0)
    bench.at["one"].report("worker-one", job.id, {"output": TOLD})
    tried = await running
    assert tried.result and tried.job == JobRef("one", "one", job.id)
    assert not bench.at["two"].jobs
    assert await open_rows(bench) == []


async def test_a_job_still_queued_at_an_endpoint_not_configured_any_more_goes_elsewhere(opened: Opened) -> None:
    bench = await opened("whisper-hub")
    request = bench.request(model="base")
    job = await sent_before(bench, request)
    del bench.pool._endpoints["one"]  # pyright: ignore[reportPrivateUsage]
    tried = await bench.tried(request)
    assert tried.error and tried.error.code == "queued_too_long" and not tried.counts
    assert job.status == "CANCELLED"
    second = asyncio.create_task(bench.tried(request, 2, (tried,)))
    other = await bench.take("two")
    bench.at["two"].report("worker-two", other.id, {"output": TOLD})
    assert (await second).result


async def test_of_a_job_that_nothing_tells_of_no_second_one_is_sent(opened: Opened) -> None:
    bench = await opened("whisper-hub", keyed=False)
    request = bench.request(model="base")
    job = await sent_before(bench, request)
    del bench.pool._endpoints["one"]  # pyright: ignore[reportPrivateUsage]
    tried = await bench.tried(request)
    assert tried.error and tried.error.code == "job_lost" and not tried.error.retryable
    assert job.id in tried.error.message and "console" in tried.error.hint


async def test_a_name_that_stands_for_another_endpoint_now_does_not_hide_the_job(opened: Opened) -> None:
    bench = await opened("whisper-hub")
    request = bench.request(model="base")
    job = await sent_before(bench, request)
    await bench.take("one")
    places = bench.pool._endpoints  # pyright: ignore[reportPrivateUsage]
    places["one"] = places.pop("two")
    running = asyncio.create_task(bench.tried(request))
    await asyncio.sleep(1.0)
    bench.at["one"].report("worker-one", job.id, {"output": TOLD})
    tried = await running
    assert tried.result and tried.job == JobRef("one", "one", job.id)


async def test_a_job_keeps_its_place_in_the_queue_of_an_endpoint_that_is_called_something_else_now(
    queued: Queued,
) -> None:
    bench, request, job = queued
    pool = bench.pool
    places, standings = pool._endpoints, pool._breakers  # pyright: ignore[reportPrivateUsage]
    place = places.pop("one")
    places["uno"] = replace(place, spec=replace(place.spec, name="uno"))
    standings["uno"] = standings.pop("one")
    running = asyncio.create_task(bench.tried(request))
    await asyncio.sleep(1.5)
    assert job.status == "IN_QUEUE"
    assert await bench.work("one", await bench.take("one")) == ""
    assert (await running).result
    assert len(bench.provider.of("run")) == 0


async def test_a_job_in_the_queue_of_an_endpoint_whose_name_stands_for_another_now_goes_elsewhere(
    queued: Queued,
) -> None:
    bench, request, job = queued
    places = bench.pool._endpoints  # pyright: ignore[reportPrivateUsage]
    two = places.pop("two")
    places["one"] = replace(two, spec=replace(two.spec, name="one"))
    tried = await bench.tried(request)
    assert tried.error and tried.error.code == "queued_too_long" and not tried.counts
    assert job.status == "CANCELLED"


async def test_a_second_job_cut_off_leaves_no_open_row(opened: Opened) -> None:
    bench = await opened()
    request = bench.request()
    await sent_before(bench, request)
    row = (await bench.ledger.of_attempt(request.task_id, 1))[0]
    second = replace(row, entry=f"{request.task_id}-1-2", endpoint="two", job_id="", state="intended")
    assert await bench.ledger.reserve(second, QuotaLimits(None, None, None)) is None
    running = asyncio.create_task(bench.tried(request))
    assert await bench.work("one", await bench.take("one")) == ""
    tried = await running
    assert tried.result and not tried.alone
    assert await open_rows(bench) == []


async def test_what_is_too_dear_at_one_endpoint_waits_for_a_cheaper_one(opened: Opened) -> None:
    bench = await opened(usd_per_s=1.0, per_job=0.001)
    pool = bench.pool
    pool._breakers["two"] = pool._breakers["two"].health_reported("dead", "away")  # pyright: ignore[reportPrivateUsage]
    request = bench.request()
    request = replace(request, task=replace(request.task, inputs=(replace(request.task.inputs[0], size=None),)))
    running = asyncio.create_task(bench.tried(request))
    await asyncio.sleep(0.5)
    assert not running.done()
    pool._breakers["two"] = pool._breakers["two"].health_reported("well")  # pyright: ignore[reportPrivateUsage]
    assert await bench.work("two", await bench.take("two")) == ""
    assert (await running).result


async def test_what_waits_for_one_endpoint_keeps_nobody_from_another(opened: Opened) -> None:
    """What is too dear here was there first: whoever can pay does not wait behind it when a place is free again."""
    bench = await opened(usd_per_s=1.0, concurrency=1, per_job=20.0)
    pool = bench.pool
    pool._breakers["two"] = pool._breakers["two"].health_reported("dead", "away")  # pyright: ignore[reportPrivateUsage]
    first, dear, cheap = (bench.request(run_id) for run_id in ("first", "dear", "cheap"))
    dear = replace(dear, task=replace(dear.task, inputs=(replace(dear.task.inputs[0], size=None),)))
    running: list[asyncio.Task[AttemptResult]] = []
    for parked, request in enumerate((first, dear, cheap)):
        running.append(asyncio.create_task(bench.tried(request)))
        async with asyncio.timeout(HANG_S):
            while not bench.at["one"].jobs or bench.parked.total < parked:
                await asyncio.sleep(0.02)
    assert await bench.work("one", await bench.take("one")) == ""
    async with asyncio.timeout(20.0):
        assert await bench.work("one", await bench.take("one")) == ""
    assert (await running[2]).result and not running[1].done()
    running[1].cancel()
    await asyncio.wait({running[1]})
    assert not bench.parked.total


async def test_what_one_endpoint_refuses_waits_for_another_that_can_do_it(opened: Opened) -> None:
    bench = await opened()
    pool = bench.pool
    bench.provider.faults.on("run", Fault(400), endpoint="one")
    pool._breakers["two"] = pool._breakers["two"].health_reported("dead", "away")  # pyright: ignore[reportPrivateUsage]
    running = asyncio.create_task(bench.tried(bench.request()))
    async with asyncio.timeout(HANG_S):
        while not bench.parked.total:
            await asyncio.sleep(0.05)
    pool._breakers["two"] = pool._breakers["two"].health_reported("well")  # pyright: ignore[reportPrivateUsage]
    assert await bench.work("two", await bench.take("two")) == ""
    assert (await running).result
    assert len(bench.provider.of("run")) == 2


async def test_one_task_beside_many_of_another_folder_is_soon_next(opened: Opened) -> None:
    """One has its turn already when it comes, and one of them is before it."""
    bench = await opened(concurrency=1)
    del bench.pool._endpoints["two"]  # pyright: ignore[reportPrivateUsage]
    keys = [f"flood/{i}" for i in range(5)] + ["other/1"]
    trying = list[asyncio.Task[AttemptResult]]()
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        for i, key in enumerate(keys):
            trying.append(group.create_task(bench.tried(replace(bench.request(f"r{i}"), key=key))))
            while bench.parked.total < i:
                await asyncio.sleep(0.01)
        order: list[str] = []
        for _ in keys:
            job = await bench.take("one")
            order.append(str(job.input["task"]["task_id"]))
            assert await bench.work("one", job) == ""
    assert all(task.result().result for task in trying)
    assert order[:4] == ["r0-j0", "r1-j0", "r2-j0", "r5-j0"]


async def test_what_is_too_dear_everywhere_fails_at_once(opened: Opened) -> None:
    bench = await opened(usd_per_s=1.0, per_job=1e-9)
    del bench.pool._endpoints["two"]  # pyright: ignore[reportPrivateUsage]
    tried = await bench.tried(bench.request())
    assert tried.error and tried.error.code == "budget_exceeded"


async def test_of_a_job_that_ended_while_nobody_listened_for_long_the_store_tells(opened: Opened) -> None:
    bench = await opened()
    request = bench.request()
    await sent_before(bench, request)
    assert await bench.work("one", await bench.take("one"), told=False) == ""
    bench.provider.faults.on("status", too_many("1"), times=10_000)
    began, late = time.time(), Clock(lambda: time.time() + LINK_S + 60.0)
    bench.clock, bench.now = late, lambda: began + 30.0 * (time.time() - began)
    tried = await bench.tried(request)
    assert tried.result, tried.error


async def test_a_job_whose_links_would_end_before_its_work_could_is_sent_again(opened: Opened) -> None:
    bench = await opened()
    request = bench.request()
    await sent_before(bench, request)
    began, late = time.time(), Clock(lambda: time.time() + LINK_S - 60.0 - 600.0 + 30.0)
    bench.clock, bench.now = late, lambda: began + 30.0 * (time.time() - began)
    tried = await bench.tried(request)
    assert tried.error and tried.error.code == "queued_too_long" and not tried.counts
    assert await bench.withdrawn(request)


async def test_a_task_whose_process_was_started_again_stays_where_it_was(opened: Opened) -> None:
    bench = await opened()
    lost = AttemptResult(0.0, 0.0, JobRef("one", "one", "gone"), error=JobLost("gone").info, counts=False)
    running = asyncio.create_task(bench.tried(bench.request(), 2, (lost,)))
    assert await bench.work("one", await bench.take("one")) == ""
    assert (await running).result


async def test_ended_in_the_middle_of_a_submission_that_no_claim_protects_the_job_is_on_record(
    opened: Opened,
) -> None:
    bench = await opened("whisper-hub")
    request = bench.request(model="base")
    bench.provider.faults.on("run", slow(0.5))
    running = asyncio.create_task(bench.tried(request))
    async with asyncio.timeout(HANG_S):
        while not bench.provider.of("run"):
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait({running})
    (row,) = await bench.ledger.of_attempt(request.task_id, 1)
    assert (row.state, row.job_id) == ("sent", bench.at["one"].job().id)


async def test_the_sweep_keeps_what_is_left_of_jobs_that_are_not_over(opened: Opened) -> None:
    bench = await opened()
    request, other = bench.request(), bench.request("other")
    late = time.time() + LINK_S + 2 * 3600.0
    row = await bench.row(request)
    again = replace(row, entry="later", intended=late)
    assert await bench.ledger.reserve(again, QuotaLimits(None, None, None)) is None
    await bench.claim(request, "j")
    await bench.claim(other, "j")
    sweeping = asyncio.create_task(sweep_claims(bench.store, bench.ledger, link_s=LINK_S, clock=lambda: late))
    async with asyncio.timeout(HANG_S):
        while await bench.store.head(other.bucket, bench.claim_key(other)):
            await asyncio.sleep(0.05)
    sweeping.cancel()
    assert await bench.store.head(request.bucket, bench.claim_key(request))


@pytest.mark.parametrize("ending", ["done", "failed"])
async def test_a_task_that_was_too_large_to_be_sent_goes_with_its_attempt(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr("listener.dispatch.task_builder.LARGE", 0)
    bench = await opened(capabilities=frozenset({"nvenc"}))
    request = bench.request()
    clip = Clip("a.mp3", "a.mp4", 1)
    film = PlannedTask(Img2VidParams(clips=(clip,)), request.task.inputs, (TaskTarget("a.mp4", "a.mp4", "video/mp4"),))
    request = replace(request, task=film)
    running = asyncio.create_task(bench.tried(request))
    job = await bench.take("one")
    folder = f".gpudrop/jobs/{request.task_id}/"
    assert await bench.store.head(request.bucket, f"{folder}1.task")
    if ending == "done":
        assert await bench.work("one", job) == ""
    else:
        bench.at["one"].report("worker-one", job.id, {"error": "CUDA out of memory", "output": None})
    tried = await running
    assert (tried.error is None) == (ending == "done")
    if tried.marks:
        await bench.reaper.retire(request, 1, alone=tried.alone)
    assert await bench.store.head(request.bucket, f"{folder}1.task") is None


async def test_a_job_that_may_have_been_started_again_is_followed_and_not_sent_anew(opened: Opened) -> None:
    bench = await opened("whisper-hub")
    request = bench.request(model="base")
    running = asyncio.create_task(bench.tried(request))
    job = await bench.take("one")
    bench.at["one"].report("worker-one", job.id, {"error": "CUDA out of memory", "output": None})
    failed = await running
    assert failed.error and failed.error.retryable
    bench.provider.faults.on("retry", reset(taken=True), times=1)
    second = asyncio.create_task(bench.tried(request, 2, (failed,)))
    await bench.at["one"].until(lambda: job.status == "IN_QUEUE")
    rows = await bench.ledger.of_attempt(request.task_id, 2)
    assert [(row.job_id, row.state) for row in rows] == [(job.id, "sent")], "a crash now finds it again"
    second.cancel()
    assert len(bench.provider.of("run")) == 1


async def test_a_job_that_is_completed_and_brought_nothing_is_sent_anew(opened: Opened) -> None:
    """RunPod starts only failed jobs once more: to ask for this one again would bring the same again."""
    bench = await opened("whisper-hub")
    request = bench.request(model="base")
    running = asyncio.create_task(bench.tried(request))
    job = await bench.take("one")
    bench.at["one"].report("worker-one", job.id, {"output": None})
    failed = await running
    assert failed.error and failed.error.retryable
    second = asyncio.create_task(bench.tried(request, 2, (failed,)))
    other = await bench.take("two")
    bench.at["two"].report("worker-two", other.id, {"output": TOLD})
    assert (await second).result
