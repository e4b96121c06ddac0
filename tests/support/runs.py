"""Runs told in this process: a store and steps in memory, a real ledger, and attempts that end as a test says.

    run = await bench.drop("talk", {"audio": "a.mp3"})    # the manifest lies there, the run is accepted
    await bench.tell(run)                                 # one life, to the end of the story
    bench.document(run, "done")

Nobody waits for the wall clock: `bench.moment` is what all parts take for the time.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import TypeAdapter

from gpu_dispatch.backend import JobRef
from gpu_dispatch.task import GpuResult, Img2VidParams, TranscribeParams, VideoFile, Videos
from handlers.img2vid import SplitLimits
from handlers.registry import load_registry
from listener.clock import Clock
from listener.dispatch.request import AttemptResult, JobRequest
from listener.fairness import share_of
from listener.ledger.callbacks import CallbackLedger
from listener.ledger.database import Database
from listener.ledger.objects import ObjectLedger
from listener.ledger.ownership import OutputOwners
from listener.ledger.run_rows import RunRow
from listener.ledger.runs import RunLedger
from listener.outages import OutageRetry
from listener.processes.parsers import DocumentParsers
from listener.processes.pool import ProcessPool
from listener.run_request import RunRequest, run_id_of
from listener.runs.admission import Admission, FileRoom
from listener.runs.adoption import UNSEALED, Adoption, SidecarSignature
from listener.runs.callbacks import CallbackSettings
from listener.runs.fence import Fence
from listener.runs.finalizer import RunFinalizer
from listener.runs.inputs import InputFinder
from listener.runs.jobs import JobRunner
from listener.runs.manifests import DocumentFetcher, ManifestReader
from listener.runs.memory_steps import MemorySteps, StepRecord
from listener.runs.outbox import CallbackNotes, Outbox
from listener.runs.outputs import OutputKeys
from listener.runs.services import RunServices
from listener.runs.status import StatusPublisher
from listener.runs.workflow import RunWorkflows
from listener.signals import Cancellations, ObjectWaiters
from listener.stores.memory import MemoryStore
from listener.triggers.triggers import Trigger
from manifests.errors import GpuDropError
from manifests.names import Sidecar
from manifests.references import ReferencePolicy
from support.deadlines import HANG_S
from support.held_store import RunRecords
from support.transcripts import spoken, transcript

BUCKET = "drop"
NOW = 1_800_000_000.0
SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZXNlIHRlc3RzIGFsb25l"

_REQUEST: TypeAdapter[RunRequest] = TypeAdapter(RunRequest)

Call = Literal["head", "read", "get", "write", "put", "create", "replace", "delete", "list", "sign"]


class Unhurried(random.Random):
    """Every wait that chance may shorten is none."""

    def random(self) -> float:
        return 0.0

    def uniform(self, a: float, b: float) -> float:
        return min(a, b)


@dataclass
class Moment:
    """The time, in epoch seconds, until somebody sets it."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


class TroubledStore(MemoryStore):
    """Fails when it is told to: `problem("head", "a.mp3", error, times=2)`; the key "" stands for every one."""

    def __init__(self, **options: Any) -> None:
        super().__init__((BUCKET,), **options)
        self.calls: list[tuple[str, str]] = []
        self.before: dict[tuple[str, str], Callable[[], Any]] = {}
        self._troubles: dict[tuple[str, str], tuple[GpuDropError, int]] = {}

    def problem(self, call: Call, key: str, error: GpuDropError, *, times: int = 1) -> None:
        self._troubles[call, key] = error, times

    async def _met(self, call: Call, key: str) -> None:
        self.calls.append((call, key))
        if work := self.before.pop((call, key), None):
            await work()
        for at in ((call, key), (call, "")):
            error, left = self._troubles.get(at, (None, 0))
            if error and left:
                self._troubles[at] = error, left - 1
                raise error

    async def head(self, bucket: str, key: str) -> Any:
        await self._met("head", key)
        return await super().head(bucket, key)

    async def get(self, bucket: str, key: str, *, max_bytes: int) -> Any:
        await self._met("get", key)
        return await super().get(bucket, key, max_bytes=max_bytes)

    async def write(self, bucket: str, key: str, data: bytes, **options: Any) -> Any:
        await self._met("write", key)
        return await super().write(bucket, key, data, **options)

    async def replace(self, bucket: str, key: str, data: bytes, **options: Any) -> Any:
        await self._met("replace", key)
        return await super().replace(bucket, key, data, **options)

    async def delete(self, bucket: str, key: str) -> None:
        await self._met("delete", key)
        await super().delete(bucket, key)


@dataclass
class ScriptedAttempts:
    """Dispatch, as a run knows it: attempts end as `ends` says, by job and attempt; the others do their work."""

    store: MemoryStore
    clock: Callable[[], float]
    ends: dict[tuple[int, int], AttemptResult | GpuDropError | Callable[[JobRequest], Any]] = field(
        default_factory=dict[Any, Any]
    )
    made: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    forgotten: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    dropped: list[tuple[str, int, bool]] = field(default_factory=list[tuple[str, int, bool]])
    forgets: bool = True

    async def execute(self, request: JobRequest, number: int, before: tuple[AttemptResult, ...]) -> AttemptResult:
        assert len(before) == number - 1
        self.made.append((request.index, number))
        end = self.ends.get((request.index, number))
        if callable(end):
            end = await end(request)
        if isinstance(end, AttemptResult):
            return end
        now, job = self.clock(), JobRef("gpu", "gpu", f"job-{request.index}-{number}")
        if end is not None:
            return AttemptResult(now, now, job, error=end.info, usd=0.5, marks=True)
        return AttemptResult(now, now, job, result=await self.worked(request), usd=0.5, marks=True, alone=True)

    async def worked(self, request: JobRequest) -> GpuResult:
        """What a worker leaves, and answers."""
        for target in request.task.outputs:
            await self.store.put(request.bucket, target.key, target.name.encode(), content_type=target.content_type)
        match request.task.params:
            case TranscribeParams():
                return GpuResult(request.task_id, payload=transcript(spoken("so it is said")), execution_ms=1000)
            case Img2VidParams(clips=clips):
                files = [VideoFile(c.output, len(c.output), c.frames / 24, 320, 180, c.frames) for c in clips]
                return GpuResult(request.task_id, payload=Videos(tuple(files), "libx264"), execution_ms=1000)
            case params:
                files = [VideoFile(t.name, len(t.name), 1.0, 320, 180, 24) for t in request.task.outputs]
                assert files, params
                return GpuResult(request.task_id, payload=Videos(tuple(files), "libx264"), execution_ms=1000)

    async def retire(self, request: JobRequest, attempt: int, *, alone: bool) -> bool:
        del alone
        self.forgotten.append((request.task_id, attempt))
        return self.forgets

    async def delete_answer(self, bucket: str, task_id: str, attempt: int, *, claimed: bool) -> None:
        assert bucket == BUCKET
        self.dropped.append((task_id, attempt, claimed))


@dataclass
class RunBench:
    store: TroubledStore
    database: Database
    runs: RunLedger
    objects: ObjectLedger
    callbacks: CallbackLedger
    attempts: ScriptedAttempts
    parts: RunServices
    moment: Moment
    arrivals: ObjectWaiters
    fence: Fence
    records: dict[str, StepRecord] = field(default_factory=dict[str, StepRecord])
    slept: list[float] = field(default_factory=list[float])

    @property
    def story(self) -> RunWorkflows:
        return RunWorkflows(self.parts)

    async def put(self, key: str, data: bytes | Mapping[str, Any] = b"sound", *, run_id: str = "") -> None:
        text = data if isinstance(data, bytes) else json.dumps(data).encode()
        await self.store.write(BUCKET, key, text, content_type="", run_id=run_id)

    async def get(self, key: str) -> bytes | None:
        return await self.store.read(BUCKET, key, max_bytes=2**30)

    async def keys(self, prefix: str = "") -> set[str]:
        return {each.key async for each in self.store.list(BUCKET, prefix)}

    async def drop(self, name: str, manifest: bytes | Mapping[str, Any], /, **changes: Any) -> RunRequest:
        """`changes` are the trigger's, or the run's."""
        key = name if "." in name else f"{name}.job.json"
        await self.put(key, manifest)
        return await self.accept(key, **changes)

    async def accept(self, key: str, /, **changes: Any) -> RunRequest:
        """A run of what lies under `key`; `member` has claimed it."""
        meta = await self.store.head(BUCKET, key)
        assert meta
        of_run = {name: changes.pop(name) for name in RunRequest.__slots__ if name in changes}
        member: str = changes.pop("member", "m1")
        given: dict[str, Any] = {"name": "manifests", **changes}
        trigger = Trigger(**given)
        now = self.moment()
        run = RunRequest(
            run_id_of(BUCKET, key, meta.version), BUCKET, key, meta.version, trigger, now, now, "test"
        )  # fmt: skip
        run = replace(run, **of_run)
        request = _REQUEST.dump_python(run, mode="json")
        share = share_of(BUCKET, key)
        row = RunRow(
            run.run_id, BUCKET, key, trigger.name, "accepted", now, now, request, member=member, share=share
        )  # fmt: skip
        assert await self.runs.add(row)
        return run

    def steps(self, run: RunRequest) -> MemorySteps:
        record = self.records.setdefault(run.run_id, StepRecord())
        return MemorySteps(record, self.story.job, sleep=self._sleep, clock=self.moment)

    async def tell(self, run: RunRequest) -> None:
        """The run's story from the top, answered by what is recorded of it."""
        async with asyncio.timeout(HANG_S):
            await self.story.run(_REQUEST.dump_python(run, mode="json"), self.steps(run))

    async def document(self, run: RunRequest, kind: Sidecar) -> dict[str, Any] | None:
        data = await self.get(run.sidecar(kind))
        return json.loads(data) if data else None

    async def done(self, run: RunRequest) -> dict[str, Any]:
        document = await self.document(run, "done")
        assert document, await self.document(run, "error")
        return document

    async def failed(self, run: RunRequest) -> dict[str, Any]:
        document = await self.document(run, "error")
        assert document, await self.document(run, "done")
        return document

    async def state(self, run: RunRequest) -> str:
        row = await self.runs.find(run.run_id)
        assert row
        return row.state

    async def set_back(self, run: RunRequest) -> None:
        """As if the end of the run had not been recorded."""
        await RunRecords(self.database, self.runs, self.objects).set_back(run.run_id)

    async def until(self, look: Callable[[], object]) -> None:
        async with asyncio.timeout(HANG_S):
            while not look():
                await asyncio.sleep(0.001)

    async def eventually(self, look: Callable[[], Awaitable[bool]]) -> None:
        """As `until`, for what has to be asked."""
        async with asyncio.timeout(HANG_S):
            while not await look():
                await asyncio.sleep(0.005)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.moment.now += seconds


async def opened(
    folder: Path,
    stack: AsyncExitStack,
    *,
    secret: str = "",
    grows: bool = False,
    split: int = 2,
    store: type[TroubledStore] = TroubledStore,
    **parts: Any,
) -> RunBench:
    """`secret` signs callbacks; `grows`: objects may be half-written; `parts` replace single collaborators."""
    database = Database(f"sqlite:///{folder / 'ledger.sqlite'}")
    await database.open()
    stack.push_async_callback(database.close)
    moment = Moment()
    there = store(clock=moment)
    clock = Clock(moment, moment)
    runs, objects, callbacks = RunLedger(database), ObjectLedger(database), CallbackLedger(database)
    ends, arrivals, rng = Cancellations(), ObjectWaiters(), Unhurried()
    patience = OutageRetry(rng)
    board = StatusPublisher(there, runs, clock, _spent, member="m1")
    stack.push_async_callback(board.end)
    fence = Fence(there, runs)
    seal = SidecarSignature(secret) if secret else UNSEALED
    parsers = DocumentParsers()
    stack.push_async_callback(parsers.close)
    registry = load_registry(img2vid=SplitLimits(split, 3))
    attempts = ScriptedAttempts(there, clock)
    admission = Admission(lambda: None)
    notes = CallbackNotes(there, runs)
    settings = CallbackSettings(secret, frozenset({"127.0.0.1"}))
    collaborators = RunServices(
        reader=ManifestReader(there, registry.models, (), parsers=parsers),
        registry=registry,
        finder=InputFinder(there, DocumentFetcher(frozenset()), arrivals, ReferencePolicy(), clock=clock, grows=grows),
        runner=JobRunner(attempts, attempts, ends, runs, patience),
        finalizer=RunFinalizer(
            there, objects, runs, board, fence, clock=clock, link_s=3600, spent=_spent, signature=seal
        ),
        adoption=Adoption(objects, runs, board, fence, clock=clock, signature=seal),
        outbox=Outbox(callbacks, notes, settings, member="m1", clock=clock, rng=rng),
        publisher=board,
        outputs=OutputKeys(there, OutputOwners(database)),
        cancellations=ends,
        clock=clock,
        outages=patience,
        pool=ProcessPool(os.environ, parent=folder),
        parsers=parsers,
        room=FileRoom(),
        admission=admission,
    )
    return RunBench(
        there, database, runs, objects, callbacks, attempts, replace(collaborators, **parts), moment, arrivals, fence
    )  # fmt: skip


async def _spent(run_id: str) -> float | None:
    del run_id
    return 1.25


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[RunBench]:
    async with AsyncExitStack() as stack:
        yield await opened(tmp_path, stack)
