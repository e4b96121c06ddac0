"""One run's whole story: read, find the inputs, plan, dispatch, finish, write.

Every step is recorded by the engine; after a crash the story is told again from the top and recorded steps answer
from memory. What is not a step here must therefore be harmless when repeated.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import structlog
from pydantic import TypeAdapter

from gpu_dispatch.task import GpuResult
from gpu_dispatch.waiting import Backoff
from handlers.base import Handler, Input, Plan, Planning, Reference
from handlers.registry import Registry
from listener.ledger.objects import ObjectLedger
from listener.runs.board import Board, RunStatus
from listener.runs.closing import Closer, Summary
from listener.runs.engine import Steps
from listener.runs.inputs import Found, InputFinder
from listener.runs.jobs import Attempt, JobOutcome, JobRequest, JobRunner, raise_if_ended
from listener.runs.reading import Asked, ManifestReader
from listener.runs.request import RunRequest
from listener.runs.signals import Ends
from manifests.errors import ErrorInfo, EventTooOld, GpuDropError, StoreUnavailable, WorkerError
from manifests.media import output_folder
from manifests.models import Manifest

T = TypeVar("T")
log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.runs")

_REQUEST: TypeAdapter[RunRequest] = TypeAdapter(RunRequest)
_JOB: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)
_OUTCOME: TypeAdapter[JobOutcome] = TypeAdapter(JobOutcome)
_STORE_BACKOFF = Backoff(base_s=0.5, cap_s=30.0)


@dataclass(frozen=True, slots=True)
class FoundInputs:
    items: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class Collaborators:
    """Everything a run's story needs; built once by the composition root. `clock` gives epoch seconds."""

    reader: ManifestReader
    registry: Registry
    finder: InputFinder
    runner: JobRunner
    closer: Closer
    board: Board
    objects: ObjectLedger
    ends: Ends
    clock: Callable[[], float]
    rng: random.Random


class Pipeline:
    def __init__(self, collaborators: Collaborators) -> None:
        self._c = collaborators

    async def run(self, request: Any, steps: Steps) -> None:
        run = _REQUEST.validate_python(request)
        async with self._c.board.open(run) as status:
            tale = _Tale(self._c, run, steps, status)
            try:
                await self._end(tale, await self._problem(tale, run))
            except GpuDropError as e:
                log.error("run_end_not_written", run_id=run.run_id, key=run.key, error=str(e), hint=e.info.hint)
                await self._c.closer.give_up(run, e.info)
            finally:
                self._c.ends.forget(run.run_id)

    async def _problem(self, tale: _Tale, run: RunRequest) -> ErrorInfo | None:
        """Tells the tale; what went wrong with it, if anything."""
        try:
            await tale.tell()
        except GpuDropError as e:
            return e.info
        except Exception:
            # The supervisor of a run: a defect ends this run, not the listener.
            log.exception("run_defect", run_id=run.run_id, key=run.key)
            return _DEFECT
        return None

    async def _end(self, tale: _Tale, problem: ErrorInfo | None) -> None:
        if problem:
            await tale.fail(problem)
        await tale.call_back()

    async def job(self, request: Any, steps: Steps) -> Any:
        outcome = await self._c.runner.run(_JOB.validate_python(request), steps)
        return _OUTCOME.dump_python(outcome, mode="json")


_DEFECT = WorkerError("Something inside gpudrop went wrong.", hint="The listener's log says what; report it.").info


class _Tale:
    """One telling of one run."""

    def __init__(self, c: Collaborators, run: RunRequest, steps: Steps, status: RunStatus) -> None:
        self._c = c
        self._run = run
        self._steps = steps
        self._status = status
        self._asked: Asked | None = None
        self._attempts: tuple[Attempt, ...] = ()

    async def tell(self) -> None:
        asked = self._asked = await self._once("read", Asked, self._read)
        handler = self._c.registry.get(asked.operation)
        manifest = handler.model.model_validate(asked.fields)
        self._status.move("accepted", operation=handler.operation)
        folder = self._output_folder(manifest)
        references = handler.references(manifest)
        found = await self._once("inputs", FoundInputs, lambda: self._find(references))
        planning = self._planning(manifest, folder, found)
        plan = await self._once("plan", Plan, lambda: self._plan(handler, planning, references, found))
        results = await self._dispatch(plan)
        summary = await self._once("write", Summary, lambda: self._write(handler, planning, plan, results))
        await self._once("done", bool, lambda: self._done(asked, summary))

    async def fail(self, error: ErrorInfo) -> None:
        async def close() -> bool:
            await self._c.closer.failed(self._run, self._asked, error, self._attempts)
            return True

        await self._once("failed", bool, close)

    async def call_back(self) -> None:
        url = self._asked.callback_url if self._asked else None
        if url:
            await self._once("callback", bool, lambda: self._c.closer.call_back(self._run, url))

    async def _read(self) -> Asked:
        self._status.move("accepted")
        raise_if_ended(self._c.ends, self._run.run_id)
        age = self._c.clock() - self._run.received
        if age > self._run.trigger.max_event_age_s:
            raise EventTooOld(f"The event came {age:.0f} s ago.", hint="Drop the file again, or raise max_event_age.")
        return await self._c.reader.read(self._run)

    async def _find(self, references: tuple[Reference, ...]) -> FoundInputs:
        finding = self._c.finder.find(
            references,
            bucket=self._run.bucket,
            folder=self._run.folder,
            deadline=self._run.received + self._run.trigger.wait_for_inputs_s,
            waiting=lambda keys: self._status.move("waiting", waiting_for=keys),
        )
        return FoundInputs(await self._unless_ended(finding))

    async def _plan(
        self,
        handler: Handler[Any],
        planning: Planning[Any],
        references: tuple[Reference, ...],
        found: FoundInputs,
    ) -> Plan:
        inputs = await self._c.finder.load(references, found.items)
        plan = await asyncio.to_thread(handler.plan, replace(planning, inputs=inputs))
        targets = [target.key for task in plan.tasks for target in task.outputs]
        await self._c.objects.will_write(self._run.bucket, targets, self._run.run_id, self._run.lineage)
        return plan

    async def _dispatch(self, plan: Plan) -> tuple[GpuResult, ...]:
        self._status.move("queued")
        requests = [
            JobRequest(
                run_id=self._run.run_id,
                bucket=self._run.bucket,
                index=index,
                count=len(plan.tasks),
                task=task,
                max_attempts=self._run.trigger.max_attempts,
            )
            for index, task in enumerate(plan.tasks)
        ]
        answers = await self._steps.children([_JOB.dump_python(r, mode="json") for r in requests])
        outcomes = [_OUTCOME.validate_python(a) for a in answers]
        self._attempts = tuple(a for outcome in outcomes for a in outcome.attempts)
        for outcome in outcomes:
            if outcome.error:
                raise GpuDropError.from_info(outcome.error)
        return tuple(o.result for o in outcomes if o.result)

    async def _write(
        self, handler: Handler[Any], planning: Planning[Any], plan: Plan, results: tuple[GpuResult, ...]
    ) -> Summary:
        self._status.move("writing")
        finished = await asyncio.to_thread(handler.finish, planning, plan, results)
        return await self._c.closer.write(self._run, plan, results, finished)

    async def _done(self, asked: Asked, summary: Summary) -> bool:
        # A run that a newer one replaced leaves no sidecar: it would be taken for the newer one's.
        raise_if_ended(self._c.ends, self._run.run_id)
        await self._c.closer.done(self._run, asked, summary)
        return True

    def _output_folder(self, manifest: Manifest) -> str:
        """A trigger's template is the operator's, and may lead up; a manifest may not."""
        may_climb = self._run.trigger.manifest is not None
        return output_folder(manifest.path, folder=self._run.folder, may_climb=may_climb)

    def _planning(self, manifest: Manifest, folder: str, found: FoundInputs) -> Planning[Any]:
        """All a plan depends on but the content of its inputs, which only the plan's own step reads."""
        return Planning(
            manifest=manifest,
            name=self._run.name,
            bucket=self._run.bucket,
            folder=folder,
            inputs={item.role: Input(item.media, item.size) for item in found.items},
        )

    async def _once(self, name: str, kind: type[T], work: Callable[[], Awaitable[T]]) -> T:
        """A recorded step. While the store or the ledger is away it is tried again, as long as its event is young."""

        async def patiently() -> T:
            attempt = 0
            while True:
                attempt += 1
                try:
                    return await work()
                except StoreUnavailable as e:
                    if self._c.clock() - self._run.received > self._run.trigger.max_event_age_s:
                        raise
                    log.warning("step_delayed", run_id=self._run.run_id, step=name, error=str(e), hint=e.info.hint)
                await asyncio.sleep(_STORE_BACKOFF.delay(attempt, self._c.rng))

        return await self._steps.once(name, kind, patiently)

    async def _unless_ended(self, work: Awaitable[T]) -> T:
        """`work`, unless the run is to end first: then RunCancelled or RunSuperseded."""
        task = asyncio.ensure_future(work)
        ended = asyncio.ensure_future(self._c.ends.wait(self._run.run_id))
        try:
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise_if_ended(self._c.ends, self._run.run_id)
            return await task
        finally:
            ended.cancel()
            task.cancel()
