"""Attempts on the real ledger, a real MinIO and the provider, with workers that begin when a test says so.

They do in this process what a worker's process does.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gpu_dispatch.absent_endpoint import AbsentEndpoint
from gpu_dispatch.backend import GpuBackend
from gpu_dispatch.claims import Claim, claim_bytes, claim_from_bytes
from gpu_dispatch.endpoints import EndpointSpec
from gpu_dispatch.runpod.endpoint import RunPodEndpoint
from gpu_dispatch.runpod.poller import PollerServices
from gpu_dispatch.task import TranscribeParams
from gpu_dispatch.wire import task_from_wire
from gpu_dispatch.worker.claim import Identity
from gpu_dispatch.worker.job import JobEnvironment, execute_job
from gpu_dispatch.worker.serverless import wire
from handlers.base import PlannedTask, TaskFile
from listener.clock import Clock
from listener.dispatch.attempts import Attempts
from listener.dispatch.budgets import Budgets, CostModel
from listener.dispatch.claim_reaper import ClaimReaper
from listener.dispatch.claims import ClaimStore
from listener.dispatch.dispatcher import Dispatcher
from listener.dispatch.endpoint_pool import EndpointPool, PooledEndpoint, RemovedEndpoint
from listener.dispatch.estimates import Estimates
from listener.dispatch.limits import Deadlines
from listener.dispatch.link_guard import AttemptKeys, LinkGuard
from listener.dispatch.output_sizes import OutputSizes
from listener.dispatch.parked_tasks import ParkedTasks
from listener.dispatch.request import AttemptResult, JobRequest
from listener.dispatch.scheduler import Scheduler
from listener.dispatch.submission import JobRecovery, Submitter
from listener.dispatch.supervisor import AttemptSupervisor
from listener.dispatch.task_builder import MultipartUploads, TaskBuilder
from listener.dispatch.tracked_jobs import JobObserver, JobTracker
from listener.dispatch.watchdog import JobWatchdog
from listener.ledger.database import Database
from listener.ledger.job_rows import JobRow
from listener.ledger.jobs import JobLedger
from listener.ledger.secrets import SecretLedger, new_secret
from listener.outages import OutageRetry
from listener.processes.pool import ProcessPool
from listener.signals import Cancellations
from listener.stores.s3.store import S3Store
from manifests.references import ObjectRef
from support.deadlines import HANG_S
from support.jobs import job as row_of
from support.odd_worker import odd
from support.runpod.endpoint import Endpoint
from support.runpod.jobs import Job
from support.runpod.queue import Provider, provider
from support.runpod_endpoints import QUICK, client_of, settings

T = TypeVar("T")

LINK_S = 7200
DEADLINES = Deadlines(60.0, LINK_S)


def _ignored(*_: object) -> None:
    pass


@dataclass
class Bench:
    """Endpoints "one" and "two", with workers of `dialect`; `at` is the provider's side of each.

    What dispatches is put together anew at each use, from what the fields hold then.
    """

    provider: Provider
    at: dict[str, Endpoint]
    store: S3Store
    database: Database
    ledger: JobLedger
    processes: ProcessPool
    claims: ClaimStore
    keys: AttemptKeys
    pool: EndpointPool
    costs: CostModel
    guard: LinkGuard
    parked: ParkedTasks
    uploads: MultipartUploads
    cancellations: Cancellations
    outages: OutageRetry
    clock: Clock
    folder: Path
    dialect: str
    now: Callable[[], float] = time.monotonic
    observer: JobObserver = _ignored

    @property
    def scheduler(self) -> Scheduler:
        return Scheduler(
            self.pool, self.ledger, self.costs, self.guard, self.parked, deadlines=DEADLINES, clock=self.clock
        )  # fmt: skip

    @property
    def tasks(self) -> TaskBuilder:
        return TaskBuilder(self.store, self.claims, self.uploads, LINK_S)

    @property
    def submitter(self) -> Submitter:
        return Submitter(self.pool, self.ledger, self.tasks, self.outages, deadlines=DEADLINES)

    @property
    def recovery(self) -> JobRecovery:
        return JobRecovery(self.pool, self.ledger, self.claims, self.submitter, self.outages)

    @property
    def reaper(self) -> ClaimReaper:
        return ClaimReaper(self.store, self.claims, now=self.now)

    @property
    def attempts(self) -> Attempts:
        scheduler, recovery = self.scheduler, self.recovery
        dispatcher = Dispatcher(self.pool, scheduler, self.submitter, recovery, self.outages)
        tracker = JobTracker(
            self.pool, self.ledger, self.claims, self.costs, self.outages,
            observer=self.observer, clock=self.clock, now=self.now, rng=random.Random(1),
        )  # fmt: skip
        watchdog = JobWatchdog(self.pool, scheduler, dispatcher, recovery, tracker, deadlines=DEADLINES)
        supervisor = AttemptSupervisor(tracker, watchdog, recovery, self.claims, self.cancellations)
        outputs = OutputSizes(self.store, self.outages)
        return Attempts(dispatcher, supervisor, self.claims, self.uploads, outputs, clock=self.clock)

    def request(self, run_id: str = "run", model: str = "quick") -> JobRequest:
        bucket = self.store.buckets[0]
        params = TranscribeParams(audio="a.mp3", model=model, word_timestamps=False)
        task = PlannedTask(params, (TaskFile("a.mp3", ObjectRef(bucket, "a.mp3"), 5),))
        return JobRequest(
            run_id=run_id, bucket=bucket, key="k", index=0, count=1, task=task, max_attempts=3, trigger="t",
            operation="transcribe", give_up=time.time() + HANG_S,
        )  # fmt: skip

    async def tried(
        self, request: JobRequest, attempt: int = 1, before: tuple[AttemptResult, ...] = ()
    ) -> AttemptResult:
        async with asyncio.timeout(HANG_S):
            return await self.attempts.execute(request, attempt, before)

    async def row(self, request: JobRequest, **changes: Any) -> JobRow:
        row = row_of(
            f"{request.task_id}-1-1", run_id=request.run_id, task_id=request.task_id, bucket=request.bucket,
            endpoint="one", endpoint_id="one", dialect=self.dialect, usd_per_s=0.0, intended=time.time(),
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
        data = claim_bytes(claim, await self.keys.of(request.task_id, 1))
        await self.store.put(request.bucket, self.claim_key(request), data, content_type="application/json")

    def claim_key(self, request: JobRequest) -> str:
        return f".gpudrop/jobs/{request.task_id}/1.claim"

    async def withdrawn(self, request: JobRequest) -> bool:
        data = await self.store.read(request.bucket, self.claim_key(request), max_bytes=4096)
        claim = claim_from_bytes(data, await self.keys.of(request.task_id, 1)) if data else None
        return claim is not None and claim.withdrawn

    async def take(self, name: str) -> Job:
        """The next job at an endpoint, given to a worker."""
        (job,) = await self.at[name].take(f"worker-{name}", 1, HANG_S, lambda: False)
        return job

    async def work(self, name: str, job: Job, *, told: bool = True) -> str:
        """Does what a worker does with `job`; the error's code, or "". Not `told`: its answer never arrives."""
        identity = Identity(job.id, name, f"worker-{name}")
        place = JobEnvironment(odd, self.folder, identity=identity, check_interval_s=0.3)
        ended = await execute_job(task_from_wire(job.input["task"]), place, lambda _: None)
        if told:
            body: dict[str, Any] = wire(ended)
            error = {"error": body["error"]} if "error" in body else {}
            self.at[name].report(f"worker-{name}", job.id, {"output": {"result": body["result"]}, **error})
        return ended.result.error.code if ended.result.error else ""


class Told:
    """Steps that remember nothing: one life."""

    resumed = False

    async def once(self, name: str, kind: type[T], work: Callable[[], Awaitable[T]]) -> T:
        del name, kind
        return await work()

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def children(self, requests: Sequence[Any]) -> list[Any]:
        raise AssertionError(requests)


Opened = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def opened(s3_store: S3Store, tmp_path: Path) -> AsyncIterator[Opened]:
    """`keyed`: whether endpoints that are not configured any more can be asked; `client`: what differs in the client's
    settings; `retry_for_s`: how long a cancel is tried; `wall`: this machine's clock; `per_job`: what a job may cost;
    `one`: what differs in the spec of endpoint "one".
    """
    async with AsyncExitStack() as stack:

        async def open_bench(
            dialect: str = "gpudrop",
            *,
            resubmits: bool = False,
            keyed: bool = True,
            client: Mapping[str, Any] | None = None,
            retry_for_s: float = 5.0,
            wall: Callable[[], float] = time.time,
            per_job: float | None = None,
            **one: Any,
        ) -> Bench:
            bucket = s3_store.buckets[0]
            await s3_store.put(bucket, "a.mp3", b"sound", content_type="audio/mpeg")
            serving = await stack.enter_async_context(provider())
            session = await stack.enter_async_context(client_of(serving.url, **(client or {})))
            database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
            await database.open()
            stack.push_async_callback(database.close)
            processes = ProcessPool(os.environ, parent=tmp_path / "work")
            await processes.open()
            stack.push_async_callback(processes.close)
            ledger, secrets = JobLedger(database, time.time), SecretLedger(database, time.time)
            await secrets.get_or_create("attempts", new_secret(time.time()))
            keys = AttemptKeys(lambda: secrets.all("attempts"), ledger, time.time)
            rng = random.Random(1)
            outages = OutageRetry(rng)
            endpoints = [
                PooledEndpoint(
                    replace(EndpointSpec(name, frozenset({"whisper"}), order=order), **(one if order == 0 else {})),
                    RunPodEndpoint(
                        settings(dialect, name=name, endpoint_id=name, retry_for_s=retry_for_s),
                        session,
                        shared=PollerServices(QUICK),
                    ),
                    dialect,
                    resubmits,
                )
                for order, name in enumerate(("one", "two"))
            ]

            def removed(endpoint: RemovedEndpoint) -> GpuBackend:
                if not keyed:
                    return AbsentEndpoint(endpoint.name, endpoint.endpoint_id, claims=dialect == "gpudrop")
                gone = replace(settings(endpoint.dialect), name=endpoint.name, endpoint_id=endpoint.endpoint_id)
                return RunPodEndpoint(gone, session, shared=PollerServices(QUICK))

            pool = EndpointPool(endpoints, removed, now=time.monotonic, rng=rng)
            stack.push_async_callback(pool.close)
            cancellations = Cancellations()
            return Bench(
                serving,
                {name: serving.endpoint(name) for name in ("one", "two")},
                s3_store,
                database,
                ledger,
                processes,
                ClaimStore(s3_store, processes, keys, outages, clock=time.time),
                keys,
                pool,
                CostModel(Estimates([]), Budgets(per_job)),
                LinkGuard(s3_store, pool.names, trusted=False, now=time.monotonic),
                ParkedTasks(cancellations, _ignored),
                MultipartUploads(s3_store),
                cancellations,
                outages,
                Clock(wall),
                tmp_path,
                dialect,
            )

        yield open_bench
