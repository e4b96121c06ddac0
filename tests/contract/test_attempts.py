"""Attempts on the real ledger, a real MinIO and the provider: whatever a row says, the work is done once, or never.

The workers here do in this process what a worker's process does, so that a test decides when each begins.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gpu_dispatch.claims import Claim, claim_bytes, claim_from_bytes
from gpu_dispatch.endpoints import EndpointSpec
from gpu_dispatch.runpod.endpoint import RunPodEndpoint, Shared
from gpu_dispatch.task import TranscribeParams, task_from_wire
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.worker.claim import Identity, claimed
from gpu_dispatch.worker.job import Workplace, finish_job
from gpu_dispatch.worker.serverless import wire
from handlers.base import PlannedTask, TaskFile
from listener.dispatch.attempts import Attempts
from listener.dispatch.budgets import Budgets
from listener.dispatch.estimates import Estimates
from listener.dispatch.legs import Means
from listener.dispatch.marks import Marks
from listener.dispatch.placing import Placing
from listener.dispatch.pool import Place, Pool
from listener.dispatch.request import JobRequest, Tried
from listener.dispatch.sending import Sender
from listener.dispatch.tasks import TaskMaker
from listener.dispatch.uploads import Uploads
from listener.ledger.database import Database
from listener.ledger.jobs import JobLedger, JobRow
from listener.signals import Ends
from listener.stores.s3 import S3Store
from manifests.errors import DuplicateJob, RunCancelled, SubmitUnknown
from manifests.media import ObjectRef
from support.jobs import job as row_of
from support.odd_worker import odd
from support.runpod.endpoint import Endpoint
from support.runpod.faults import reset
from support.runpod.jobs import Job
from support.runpod.queue import Provider, provider
from support.runpod_endpoints import QUICK, client_of, settings

pytestmark = pytest.mark.minio

HANG_S = 60.0
LINK_S = 600
RACES = 40


@dataclass
class Bench:
    """Endpoints "one" and "two"; `at` is the provider's side of each."""

    provider: Provider
    at: dict[str, Endpoint]
    store: S3Store
    ledger: JobLedger
    marks: Marks
    means: Means
    folder: Path

    @property
    def attempts(self) -> Attempts:
        return Attempts(self.means)

    def request(self, run_id: str = "run", model: str = "quick") -> JobRequest:
        bucket = self.store.buckets[0]
        params = TranscribeParams(audio="a.mp3", model=model, word_timestamps=False)
        task = PlannedTask(params, (TaskFile("a.mp3", ObjectRef(bucket, "a.mp3"), 5),))
        return JobRequest(
            run_id=run_id, bucket=bucket, key="k", index=0, count=1, task=task, max_attempts=3, trigger="t",
            operation="transcribe", give_up=time.time() + HANG_S,
        )  # fmt: skip

    async def tried(self, request: JobRequest, attempt: int = 1, before: tuple[Tried, ...] = ()) -> Tried:
        async with asyncio.timeout(HANG_S):
            return await self.attempts.carry_out(request, attempt, before)

    async def row(self, request: JobRequest, **changes: Any) -> JobRow:
        row = row_of(
            f"{request.task_id}-1-1", run_id=request.run_id, task_id=request.task_id, bucket=request.bucket,
            endpoint="one", endpoint_id="one", usd_per_s=0.0, intended=time.time(),
        )  # fmt: skip
        state, job_id = changes.get("state", "intended"), changes.get("job_id", "")
        assert await self.ledger.reserve(row, Budgets().limits(request, EndpointSpec("one", frozenset()))) is None
        if job_id:
            await self.ledger.sent(row.entry, endpoint_id="one", job_id=job_id)
        if state == "unknown":
            await self.ledger.unknown(row.entry)
        if state == "ended":
            await self.ledger.ended(row.entry, outcome="job_lost")
        return row

    async def claim(self, request: JobRequest, job_id: str) -> None:
        claim = Claim(request.task_id, job_id, "one", "w", time.time())
        await self.store.put(
            request.bucket, self.claim_key(request), claim_bytes(claim), content_type="application/json"
        )

    def claim_key(self, request: JobRequest) -> str:
        return f".gpudrop/jobs/{request.task_id}/1.claim"

    async def withdrawn(self, request: JobRequest) -> bool:
        data = await self.store.read(request.bucket, self.claim_key(request), max_bytes=4096)
        claim = claim_from_bytes(data) if data else None
        return claim is not None and claim.withdrawn

    async def take(self, name: str) -> Job:
        """The next job at an endpoint, given to a worker."""
        (job,) = await self.at[name].take(f"worker-{name}", 1, HANG_S, lambda: False)
        return job

    async def work(self, name: str, job: Job, *, told: bool = True) -> str:
        """Does what a worker does with `job`; the error's code, or "". Not `told`: its answer never arrives."""
        place = Workplace(odd, self.folder, identity=Identity(job.id, name, f"worker-{name}"))
        ended = await finish_job(task_from_wire(job.input["task"]), place, lambda _: None)
        if told:
            body: dict[str, Any] = wire(ended)
            error = {"error": body["error"]} if "error" in body else {}
            self.at[name].report(f"worker-{name}", job.id, {"output": {"result": body["result"]}, **error})
        return ended.result.error.code if ended.result.error else ""


def _ignored(*_: object) -> None:
    pass


Opened = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def opened(s3_store: S3Store, tmp_path: Path) -> AsyncIterator[Opened]:
    """`opened(dialect, resubmits, one={…})`: changes of the spec of endpoint "one"."""
    async with AsyncExitStack() as stack:

        async def open_bench(dialect: str = "gpudrop", *, resubmits: bool = False, **one: Any) -> Bench:
            bucket = s3_store.buckets[0]
            await s3_store.put(bucket, "a.mp3", b"sound", content_type="audio/mpeg")
            serving = await stack.enter_async_context(provider())
            client = await stack.enter_async_context(client_of(serving.url))
            database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
            await database.open()
            stack.push_async_callback(database.close)
            ledger, marks = JobLedger(database, time.time), Marks(s3_store, link_s=LINK_S, clock=time.time)
            rng = random.Random(1)
            places = [
                Place(
                    replace(EndpointSpec(name, frozenset({"whisper"}), order=order), **(one if order == 0 else {})),
                    RunPodEndpoint(
                        replace(settings(dialect), name=name, endpoint_id=name), client, shared=Shared(QUICK)
                    ),
                    resubmits,
                )
                for order, name in enumerate(("one", "two"))
            ]
            pool = Pool(places, now=time.monotonic, rng=rng)
            stack.push_async_callback(pool.close)
            ends, estimates = Ends(), Estimates([])
            placing = Placing(
                pool, ledger, estimates, Budgets(), ends, timeout_s=60.0, clock=time.time, waiting=_ignored
            )
            uploads = Uploads(s3_store, link_s=LINK_S)
            sender = Sender(placing, pool, ledger, marks, TaskMaker(s3_store, marks, uploads, LINK_S), rng)
            means = Means(
                sender, placing, pool, ledger, marks, uploads, estimates, ends,
                clock=time.time, rng=rng, tell=_ignored, limit_s=LINK_S,
            )  # fmt: skip
            at = {name: serving.endpoint(name) for name in ("one", "two")}
            return Bench(serving, at, s3_store, ledger, marks, means, tmp_path)

        yield open_bench


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
            await bench.means.sender.resume(request, 1)
        assert caught.value.retryable
        assert await bench.withdrawn(request)
        assert [row.state for row in await bench.ledger.of_attempt(request.task_id, 1)] == ["ended"]
        return
    known = await bench.means.sender.resume(request, 1)
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
    maker = TaskMaker(bench.store, bench.marks, bench.means.uploads, LINK_S)
    task = await maker.task(request, 1, timeout_s=60.0, claims=True)
    await asyncio.sleep(after_s)
    try:
        async with claimed(task, Identity("j1", "one", "w"), TransferLimits()):
            return True
    except (RunCancelled, DuplicateJob):
        return False


async def settled(bench: Bench, request: JobRequest, *, after_s: float) -> Claim | None:
    await asyncio.sleep(after_s)
    return await bench.marks.settle(request, 1)


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
