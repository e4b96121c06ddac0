"""Attempts on the real ledger, a real MinIO and the provider: whatever a row says, the work is done once, or never.

The workers here do in this process what a worker's process does, so that a test decides when each begins.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

import pytest

from gpu_dispatch.claims import Claim, claim_bytes, withdrawal
from gpu_dispatch.task import (
    Clip,
    GpuResult,
    Img2VidParams,
    Payload,
    TranscribeParams,
    VideoFile,
    Videos,
)
from gpu_dispatch.transcript import Transcript
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.worker.answer import result_bytes
from gpu_dispatch.worker.claim import Identity, acquire_claim
from handlers.base import PlannedTask, TaskTarget
from listener.dispatch.limits import AT_ONCE, LEAST_BOUND, PACE
from listener.dispatch.outcomes import fitting
from listener.dispatch.request import AttemptResult, JobRequest
from manifests.errors import DuplicateJob, QueuedTooLong, RunCancelled, SubmitUnknown
from support.attempts import Bench, Opened
from support.jobs import ANYTHING
from support.jobs import job as row_of
from support.odd_worker import transcript
from support.runpod.faults import reset

pytestmark = pytest.mark.minio

RACES = 40


@dataclass(frozen=True)
class Found:
    """What lies in the ledger (`state` "": nothing) and in the store, and what the attempt does with it.

    `then`: the job that is followed, "" for none, or "never" where no job of the attempt will do any work.
    """

    name: str
    state: str
    job_id: str
    holder: str
    then: str


FOUND = [
    Found("nothing", "", "", "", ""),
    Found("an intent, and nobody has begun", "intended", "", "", "never"),
    Found("an intent, and a job has begun", "intended", "", "j9", "j9"),
    Found("an unknown job that has not begun", "unknown", "", "", "never"),
    Found("an unknown job that has begun", "unknown", "", "j9", "j9"),
    Found("a job that was sent", "sent", "j1", "", "j1"),
    Found("a job that was sent and has begun", "sent", "j1", "j1", "j1"),
    Found("a job that has ended", "ended", "j1", "j1", "j1"),
    Found("an intent that was settled before", "ended", "", "", "never"),
]


@pytest.mark.parametrize("found", FOUND, ids=[f.name for f in FOUND])
async def test_an_attempt_goes_on_from(opened: Opened, found: Found) -> None:
    bench = await opened()
    request = bench.request()
    if found.state:
        await bench.row(request, state=found.state, job_id=found.job_id)
    if found.holder:
        await bench.claim(request, found.holder)
    if found.then == "never":
        with pytest.raises(SubmitUnknown) as caught:
            await bench.recovery.resume(request, 1)
        assert caught.value.retryable
        assert await bench.withdrawn(request)
        assert [row.state for row in await bench.ledger.of_attempt(request.task_id, 1)] == ["ended"]
        return
    known = await bench.recovery.resume(request, 1)
    assert [sent.job.job_id for sent in known] == ([found.then] if found.then else [])
    rows = await bench.ledger.of_attempt(request.task_id, 1)
    assert [row.job_id for row in rows] == ([found.then] if found.then else []), "its id is on record"
    assert bench.provider.of("run") == []


async def test_either_a_worker_begins_or_the_listener_withdraws_and_never_both(opened: Opened) -> None:
    bench = await opened()
    began = 0
    for i in range(RACES):
        request = bench.request(f"race{i}")
        # The first two are decided beforehand.
        lead_s = (5.0, -5.0)[i] if i < 2 else random.Random(i).uniform(-0.03, 0.03)
        did, holder = await asyncio.gather(
            begins(bench, request, after_s=max(0.0, -lead_s)), settled(bench, request, after_s=max(0.0, lead_s))
        )
        assert did == (holder is not None), i
        began += did
    assert 0 < began < RACES


async def begins(bench: Bench, request: JobRequest, *, after_s: float) -> bool:
    """Whether a worker that is given the task then does it."""
    task = await bench.tasks.task(request, 1, timeout_s=60.0, claims=True)
    await asyncio.sleep(after_s)
    try:
        async with acquire_claim(task, Identity("j1", "one", "w"), TransferLimits()):
            return True
    except (RunCancelled, DuplicateJob):
        return False


async def settled(bench: Bench, request: JobRequest, *, after_s: float) -> Claim | None:
    await asyncio.sleep(after_s)
    return await bench.claims.settle(request, 1)


async def planted(bench: Bench, request: JobRequest, what: str) -> bytes:
    """What somebody puts there who may write in the bucket; "old": as workers of earlier releases do."""
    if what == "answer":
        return result_bytes(GpuResult(request.task_id, transcript("planted")))
    other = await bench.keys.of(request.task_id, 2)
    claims = {"old": claim_bytes(Claim(request.task_id, "j9", "one", "w", 1.0))}
    claims |= {"other": claim_bytes(Claim(request.task_id, "j9", "one", "w", 1.0), other)}
    return {**claims, "withdrawn": claim_bytes(withdrawal(request.task_id, 1.0)), "large": b"x" * 5000}[what]


@pytest.mark.parametrize("what", ["old", "other", "withdrawn", "large"])
async def test_a_claim_that_somebody_planted_leads_nowhere_and_is_withdrawn(opened: Opened, what: str) -> None:
    bench = await opened()
    request = bench.request()
    await bench.row(request, state="unknown")
    data = await planted(bench, request, what)
    await bench.store.put(request.bucket, bench.claim_key(request), data, content_type="")
    assert await bench.claims.holder(request, 1) is None
    with pytest.raises(SubmitUnknown) as caught:
        await bench.recovery.resume(request, 1)
    assert caught.value.retryable and await bench.withdrawn(request)
    assert not await begins(bench, request, after_s=0.0)


async def test_an_answer_that_somebody_planted_is_none(opened: Opened) -> None:
    bench = await opened()
    request = bench.request()
    key = bench.claim_key(request).replace("claim", "answer")
    own = await bench.keys.of(request.task_id, 1)
    true = result_bytes(GpuResult(request.task_id, transcript("true")), own)
    for data in (await planted(bench, request, "answer"), true[:-1], b"", result_bytes(GpuResult("other", None), own)):
        await bench.store.put(request.bucket, key, data, content_type="")
        assert await bench.claims.answer(request, 1) is None
    await bench.store.put(request.bucket, key, true, content_type="")
    found = await bench.claims.answer(request, 1)
    assert found and isinstance(found.payload, Transcript) and found.payload.text == "true"


async def test_what_was_sent_before_there_were_keys_comes_to_its_end(opened: Opened) -> None:
    bench = await opened()
    request = bench.request()
    row = row_of(f"{request.task_id}-1-1", task_id=request.task_id, endpoint="one", endpoint_id="one", intended=1.0)
    await bench.ledger.reserve(row, ANYTHING)
    assert (await bench.tasks.task(request, 1, timeout_s=60.0, claims=True)).secret == ""
    await bench.store.put(
        request.bucket, bench.claim_key(request), await planted(bench, request, "old"), content_type=""
    )
    (found,) = await bench.recovery.resume(request, 1)
    assert found.job.job_id == "j9"
    answer = bench.claim_key(request).replace("claim", "answer")
    await bench.store.put(request.bucket, answer, await planted(bench, request, "answer"), content_type="")
    assert await bench.claims.answer(request, 1)
    await bench.claims.revoke(request, 1)
    assert not await begins(bench, request, after_s=0.0)


async def test_a_job_nobody_takes_goes_to_another_endpoint_and_does_not_count(opened: Opened) -> None:
    bench = await opened(max_queue_s=0.6)
    request = bench.request()
    first = await bench.tried(request)
    assert first.error and first.error.code == "queued_too_long" and first.error.retryable
    assert not first.counts
    assert bench.at["one"].job().status == "CANCELLED"
    assert await bench.withdrawn(request)
    second = asyncio.create_task(bench.tried(request, 2, (first,)))
    assert await bench.work("two", await bench.take("two")) == ""
    assert (await second).result
    assert len(bench.at["one"].jobs) == 1


@pytest.mark.parametrize(("begins", "waits"), [("one", "two"), ("two", "one")])
async def test_of_two_jobs_of_an_attempt_the_one_that_begins_does_the_work(
    opened: Opened, begins: str, waits: str
) -> None:
    bench = await opened(hedge_after_s=0.5)
    running = asyncio.create_task(bench.tried(bench.request(model="wait-0.5")))
    await bench.at["two"].until(lambda: bench.at["two"].jobs)
    late = bench.at[waits].job()
    assert await bench.work(begins, await bench.take(begins)) == ""
    tried = await running
    assert tried.result and tried.job and tried.job.backend in ("one", "two")
    assert late.status == "CANCELLED"
    assert await bench.work(waits, late, told=False) == "duplicate_job", "should it begin after all"
    rows = await bench.ledger.of_attempt("run-j0", 1)
    assert sorted(row.outcome for row in rows) == ["done", "taken_back"]


@pytest.mark.parametrize("resubmits", [False, True])
async def test_workers_that_claim_nothing_get_a_doubtful_task_again_only_if_the_user_says_so(
    opened: Opened, resubmits: bool
) -> None:
    bench = await opened("whisper-hub", resubmits=resubmits)
    bench.provider.faults.on("run", reset(taken=True))
    tried = await bench.tried(bench.request(model="base"))
    assert tried.error and tried.error.code == "submit_unknown"
    assert tried.error.retryable is resubmits
    assert len(bench.provider.of("run")) == 1


async def test_a_duplicate_leads_to_the_job_that_holds_the_claim(opened: Opened) -> None:
    bench = await opened()
    one = bench.at["one"]
    running = asyncio.create_task(bench.tried(bench.request()))
    known = await bench.take("one")
    other = one.submit({"input": known.input})
    assert await bench.take("one") is other
    working = asyncio.create_task(bench.work("one", other, told=False))
    assert await working == ""
    assert await bench.work("one", known) == "duplicate_job"
    one.report("worker-one", other.id, {"output": {"answer": "stored"}})
    tried = await running
    assert tried.result and tried.job and tried.job.job_id == other.id


@pytest.mark.parametrize("answered", [True, False])
async def test_of_a_lost_job_the_store_tells(opened: Opened, answered: bool) -> None:
    bench = await opened()
    running = asyncio.create_task(bench.tried(bench.request()))
    job = await bench.take("one")
    if answered:
        assert await bench.work("one", job, told=False) == ""
    bench.at["one"].lose(job)
    tried = await running
    if answered:
        assert tried.result and tried.result.task_id == "run-j0"
        return
    assert tried.error and (tried.error.code, tried.error.retryable) == ("job_lost", True)
    assert await bench.work("one", job, told=False) == "cancelled", "it must not begin any more"


async def test_a_task_that_was_sent_without_end_is_not_sent_again(opened: Opened) -> None:
    bench = await opened()
    request = bench.request()
    before = AttemptResult(0.0, 1.0, error=QueuedTooLong("no").info, counts=False)
    for number in range(LEAST_BOUND):
        await bench.ledger.reserve(row_of(f"{number}", task_id=request.task_id, intended=1.0), ANYTHING)
    tried = await bench.tried(request, LEAST_BOUND + 1, (before,))
    assert tried.error and (tried.error.code, tried.error.retryable) == ("too_many_starts", False)
    assert tried.counts and bench.provider.of("run") == []


async def test_a_clock_that_is_set_back_makes_no_task_wait_longer(opened: Opened) -> None:
    behind = [0.0]
    bench = await opened(wall=lambda: time.time() - behind[0])
    request = bench.request()
    for number in range(AT_ONCE):
        last = time.time() - PACE.bound(1) + 2.0
        await bench.ledger.reserve(row_of(f"{number}", task_id=request.task_id, intended=last), ANYTHING)
    async with asyncio.timeout(30.0):
        admitted = asyncio.create_task(bench.scheduler.admit(request, first=False))
        while not bench.parked.total:
            await asyncio.sleep(0.01)
        behind[0] = 3600.0
        await admitted


async def test_a_claim_leads_to_no_job_of_another_task(opened: Opened) -> None:
    bench = await opened()
    other, request = bench.request("other"), bench.request()
    await bench.row(other, state="sent", job_id="others")
    await bench.row(request, state="unknown")
    await bench.claim(request, "others")
    with pytest.raises(SubmitUnknown) as caught:
        await bench.recovery.resume(request, 1)
    assert caught.value.retryable and await bench.withdrawn(request)
    assert [row.job_id for row in await bench.ledger.of_attempt(other.task_id, 1)] == ["others"]


async def test_a_claim_leads_to_no_other_endpoint(opened: Opened) -> None:
    bench = await opened()
    request = bench.request()
    await bench.row(request, state="unknown")
    claim = Claim(request.task_id, "j9", "somebody-elses", "w", 1.0)
    await bench.store.put(request.bucket, bench.claim_key(request), claim_bytes(claim), content_type="")
    with pytest.raises(SubmitUnknown):
        await bench.recovery.resume(request, 1)
    assert await bench.withdrawn(request) and not bench.provider.of("status")


@pytest.mark.parametrize(
    "payload", [Videos((VideoFile("a.mp4", 1, 1.0, 1, 1, 1),), "copy"), Transcript("en", 1.0, 1.0, (), "m", "e", "d")]
)
async def test_an_answer_to_something_else_is_the_workers_error(opened: Opened, payload: Payload) -> None:
    bench = await opened()
    request = bench.request()
    film = Img2VidParams(clips=(Clip("a.jpg", "b.mp4", 1),))
    task = PlannedTask(film, request.task.inputs, (TaskTarget("b.mp4", "b.mp4", "video/mp4"),))
    for planned in (request.task, task):
        if isinstance(planned.params, TranscribeParams) != isinstance(payload, Transcript):
            told = fitting(GpuResult(request.task_id, payload), planned)
            assert told and told.payload is None and told.error and told.error.code == "worker_error"
