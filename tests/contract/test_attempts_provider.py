"""What a provider's odd words cost an attempt: nothing, where the store tells what became of the job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gpu_dispatch.claims import claim_bytes, withdrawal
from gpu_dispatch.task import GpuResult
from gpu_dispatch.transcript import Transcript
from gpu_dispatch.worker.answer import result_bytes
from support.attempts import Bench, Opened
from support.deadlines import HANG_S
from support.odd_worker import transcript
from support.runpod.faults import failing
from support.runpod.jobs import Job

pytestmark = pytest.mark.minio

Silence = Callable[[Bench, Job], None]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_dispatch.backend.POLL_S", 0.3)
    monkeypatch.setattr("listener.dispatch.watchdog.CHECK_INTERVAL_S", 0.1)
    monkeypatch.setattr("listener.dispatch.watchdog.DUE_S", 0.3)


def confused(bench: Bench, job: Job) -> None:
    """Whatever it is asked, the provider tells of a job of somebody else, which is done."""
    place = bench.at["one"]
    other = place.submit({"input": {}, "policy": {}})
    other.status, other.output = "COMPLETED", {"result": None}
    place.confuse(job, other, looks=100_000)


def broken(bench: Bench, job: Job) -> None:
    del job
    bench.provider.faults.on("status", failing(500), times=None)


@pytest.mark.parametrize("silence", [confused, broken])
@pytest.mark.parametrize("ended", [True, False], ids=["done before", "done after"])
async def test_of_a_job_of_which_the_provider_tells_nothing_to_be_believed_the_store_tells(
    opened: Opened, silence: Silence, ended: bool
) -> None:
    bench = await opened()
    request = bench.request(model="quick" if ended else "wait-2")
    running = asyncio.create_task(bench.tried(request))
    job = await bench.take("one")
    silence(bench, job)
    assert await bench.work("one", job, told=False) == ""
    tried = await running
    assert tried.result and isinstance(tried.result.payload, Transcript) and tried.result.task_id == request.task_id
    assert [len(place.jobs) for place in bench.at.values()] in ([1, 0], [2, 0]), "the other job is not ours"
    assert len(bench.provider.of("run")) == 1


async def test_what_somebody_plants_beside_a_job_is_neither_delivered_nor_ends_it(opened: Opened) -> None:
    bench = await opened()
    request = bench.request(model="wait-2")
    running = asyncio.create_task(bench.tried(request))
    job = await bench.take("one")
    broken(bench, job)
    working = asyncio.create_task(bench.work("one", job, told=False))
    while not await bench.claims.holder(request, 1):
        await asyncio.sleep(0.05)
    planted = {
        "answer": result_bytes(GpuResult(request.task_id, transcript("planted"))),
        "claim": claim_bytes(withdrawal(request.task_id, 1.0)),
    }
    for what, data in planted.items():
        key = bench.claim_key(request).replace("claim", what)
        await bench.store.put(request.bucket, key, data, content_type="application/json")
    assert await working == ""
    tried = await running
    assert tried.result and isinstance(tried.result.payload, Transcript) and tried.result.payload.text == "wait-2"
    assert len(bench.provider.of("run")) == 1


async def test_a_worker_that_says_it_worked_for_weeks_costs_what_it_can_have_cost(opened: Opened) -> None:
    bench = await opened(usd_per_s=1.0)
    request = bench.request()
    running = asyncio.create_task(bench.tried(request))
    job = await bench.take("one")
    broken(bench, job)
    told = GpuResult(request.task_id, transcript("lied"), execution_ms=30 * 86_400_000)
    key = bench.claim_key(request).replace("claim", "answer")
    data = result_bytes(told, await bench.keys.of(request.task_id, 1))
    await bench.store.put(request.bucket, key, data, content_type="application/json")
    tried = await running
    assert tried.result and 0.0 <= tried.usd <= HANG_S


async def test_a_queued_job_of_which_nothing_is_told_keeps_its_place(opened: Opened) -> None:
    bench = await opened()
    running = asyncio.create_task(bench.tried(bench.request()))
    async with asyncio.timeout(HANG_S):
        await bench.at["one"].until(lambda: bench.at["one"].jobs)
        broken(bench, bench.at["one"].job())
        while len(bench.provider.faults.met) < 4:
            await asyncio.sleep(0.05)
    assert not running.done()
    bench.provider.faults.clear()
    job = await bench.take("one")
    assert await bench.work("one", job) == ""
    assert (await running).result and len(bench.provider.of("run")) == 1


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED"])
async def test_one_word_of_an_end_costs_no_start(opened: Opened, status: Any) -> None:
    bench = await opened()
    running = asyncio.create_task(bench.tried(bench.request(model="wait-1")))
    job = await bench.take("one")
    bench.at["one"].flap(job, status)
    assert await bench.work("one", job) == ""
    tried = await running
    assert tried.result and not job.lies and len(bench.provider.of("run")) == 1


async def test_an_answer_of_another_task_in_the_store_is_not_this_tasks(opened: Opened) -> None:
    bench = await opened()
    request = bench.request()
    running = asyncio.create_task(bench.tried(request))
    job = await bench.take("one")
    stray = result_bytes(GpuResult("another-task", transcript("stray")), await bench.keys.of(request.task_id, 1))
    key = bench.claim_key(request).replace("claim", "answer")
    await bench.store.put(request.bucket, key, stray, content_type="application/json")
    bench.at["one"].lose(job)
    tried = await running
    assert tried.error and tried.error.code == "job_lost"


async def test_the_answer_of_a_job_that_was_given_up_a_moment_too_early_is_taken(opened: Opened) -> None:
    """Its worker was past its last look at the claim: what it did is not done once more."""
    bench = await opened()
    request = bench.request()
    running = asyncio.create_task(bench.tried(request))
    job = await bench.take("one")
    await bench.claim(request, job.id)
    bench.at["one"].lose(job)
    lost = await running
    assert lost.error and lost.error.code == "job_lost" and await bench.withdrawn(request)
    key = bench.claim_key(request).replace("claim", "answer")
    data = result_bytes(GpuResult(request.task_id, transcript("quick")), await bench.keys.of(request.task_id, 1))
    await bench.store.put(request.bucket, key, data, content_type="application/json")
    async with asyncio.timeout(10.0):
        tried = await bench.tried(request, 2, (lost,))
    assert tried.result and isinstance(tried.result.payload, Transcript) and tried.result.payload.text == "quick"
    assert tried.job and tried.job.job_id == job.id and tried.usd == 0.0
    assert len(bench.provider.of("run")) == 1
