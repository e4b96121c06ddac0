"""One telling of one run: prepare, dispatch, finish, call back.

Three steps are recorded beside those of the jobs. What is inside one, and what is not a step at all, is done again
after a crash, and must be harmless then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import structlog
from pydantic import TypeAdapter

from gpu_dispatch.task import GpuResult
from handlers.base import Handler, Input, Plan, Planning, Reference
from handlers.registry import Registry
from listener.clock import Clock
from listener.defects import DEFECT
from listener.dispatch.request import JobRequest
from listener.fair_shares import turn_of
from listener.parsers import LARGE, REFERENCE_COST, Parsers
from listener.patience import Patience
from listener.process_pool import ProcessPool
from listener.runs.admission import Admission
from listener.runs.adoption import Adoption
from listener.runs.board import Board, RunStatus
from listener.runs.closing import Closer, Summary
from listener.runs.file_room import FileRoom
from listener.runs.finish import Finish, Outputs, made_outputs
from listener.runs.input_search import Asking
from listener.runs.inputs import Found, InputFinder, asking_of
from listener.runs.jobs import Attempt, JobOutcome, JobRunner, job_requests
from listener.runs.outbox import Outbox
from listener.runs.outputs import OutputKeys
from listener.runs.reading import Asked, ManifestReader
from listener.runs.request import RunRequest
from listener.runs.steps import Steps, adapter_of, recalled
from listener.signals import Ends
from manifests.error_classes import is_waited_for
from manifests.errors import ErrorInfo, EventTooOld, GpuDropError, RunCancelled, RunSuperseded
from manifests.media import output_folder
from manifests.models import Manifest
from manifests.sidecars import awaits_callback, without_callback

T = TypeVar("T")
log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.runs")

_JOB: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)
_OUTCOME: TypeAdapter[JobOutcome] = adapter_of(JobOutcome)

KEPT_S = 86400.0
"""What is finished is paid for: to write it down the store is waited for at least so long."""


@dataclass(frozen=True, slots=True)
class Collaborators:
    """Everything a run's story needs; built once by the composition root."""

    reader: ManifestReader
    registry: Registry
    finder: InputFinder
    runner: JobRunner
    closer: Closer
    adoption: Adoption
    outbox: Outbox
    board: Board
    outputs: OutputKeys
    ends: Ends
    clock: Clock
    patience: Patience
    pool: ProcessPool
    parsers: Parsers
    room: FileRoom
    admission: Admission


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that is known before the first job is sent; with an `error`, as far as it got."""

    asked: Asked | None = None
    found: tuple[Found, ...] = ()
    plan: Plan | None = None
    error: ErrorInfo | None = None
    ended: bool = False
    """A final sidecar of this very run lies there: an earlier life ended it."""
    callback_url: str | None = None
    """Who is to hear of an error that came before the manifest was understood, or of an end in an earlier life."""


class Tale:
    """One telling of one run."""

    def __init__(self, c: Collaborators, run: RunRequest, steps: Steps, status: RunStatus) -> None:
        self._c = c
        self._run = run
        self._steps = steps
        self._status = status
        self._asked: Asked | None = None
        self._callback_url: str | None = None
        self._attempts: tuple[Attempt, ...] = ()
        self._outputs: Outputs | None = None
        self._summary: Summary | None = None
        self._final: bytes | None = None
        self._share = 0
        self._turn = turn_of(run.bucket, run.key)

    async def tell(self) -> None:
        prepared = await self._once("prepare", Prepared, self._prepare)
        if prepared.ended:
            self._callback_url = prepared.callback_url
            return
        asked = self._asked = prepared.asked
        self._callback_url = asked.callback_url if asked else prepared.callback_url
        if asked is None or prepared.plan is None:
            raise GpuDropError.from_info(prepared.error or DEFECT)
        handler, planning = self._planning(asked, prepared.found)
        results = await self._dispatch(prepared.plan, asked)
        finish = Finish(handler, planning, prepared.plan, results)
        async with AsyncExitStack() as kept:
            await self._once("finish", bool, lambda: self._finish(asked, finish, kept), at_least_s=KEPT_S)

    async def fail(self, error: ErrorInfo) -> None:
        again = self._steps.resumed

        async def close() -> bool:
            nonlocal again
            if not (again and error.code != RunSuperseded.code and await self._is_over()):
                again = True
                self._final = await self._c.closer.failed(self._run, self._asked, error, self._attempts)
            return True

        await self._once("failed", bool, close, at_least_s=KEPT_S)

    async def call_back(self) -> None:
        if url := self._callback_url:
            await self._once("callback", bool, lambda: self._call_back(url), at_least_s=KEPT_S)

    async def clear(self) -> None:
        """After the last step: until then the run may have to be told from the top, and its jobs' answers with it."""
        await self._c.runner.forget(self._run.bucket, self._attempts)

    async def _call_back(self, url: str) -> bool:
        """The run's own last word, and nobody else's: a newer run's may lie in its place by now."""
        body = self._final or await self._c.adoption.final_sidecar(self._run)
        if body is None:
            return False
        await self._c.outbox.add(self._run.run_id, url, await asyncio.to_thread(without_callback, body))
        return True

    async def _prepare(self) -> Prepared:
        """Everything before the first job. Harmless to repeat: nothing is written but what the run claims."""
        self._asked = None
        if body := await self._c.adoption.begin(self._run):
            # Its record was lost, with the callback that waited there.
            waits = await asyncio.to_thread(awaits_callback, body)
            return Prepared(ended=True, callback_url=await self._caller() if waits else None)
        try:
            await self._c.outputs.check_sidecars(self._run)
            asked, handler, references = await self._understood()
            found = await self._find(references)
            plan = await self._plan(handler, self._planning(asked, found)[1], references, found)
        except GpuDropError as e:
            if is_waited_for(e):
                raise
            url = None if self._asked or isinstance(e, RunCancelled | RunSuperseded) else await self._caller()
            return Prepared(asked=self._asked, error=e.info, callback_url=url)
        return Prepared(asked, found, plan)

    async def _understood(self) -> tuple[Asked, Handler[Any], tuple[Reference, ...]]:
        """What is asked for. Where it names very many files, nothing of it is kept while others have the room."""
        while True:
            asked = self._asked = await self._read()
            handler, planning = self._planning(asked, ())
            self._status.move("accepted", operation=asked.operation)
            references = handler.references(planning.manifest)
            share = self._c.room.share_of(len(references))
            if self._has_room(share):
                return asked, handler, references
            words = f"room for a list of {len(references):,} files"
            self._asked = None
            del asked, handler, planning, references
            self._waits([words])
            await self._unless_ended(self._c.room.take(share, self._turn))
            self._share = share

    def _has_room(self, share: int) -> bool:
        if share <= self._share:
            return True
        self.leave_room()
        if self._c.room.try_take(share, self._turn):
            self._share = share
        return self._share == share

    def leave_room(self) -> None:
        share, self._share = self._share, 0
        if share:
            self._c.room.free(share, self._turn)

    async def _caller(self) -> str | None:
        """Who waits to hear of the drop, although it was not understood in this life."""
        return await self._c.reader.callback_url(self._run)

    async def _read(self) -> Asked:
        self._status.move("accepted")
        self._c.ends.check(self._run.run_id)
        await self._c.finder.check_link(self._asking, self._asking.drop, "")
        age = self._c.clock.age_s(self._run.fresh)
        if age > self._run.trigger.max_event_age_s:
            raise EventTooOld(f"The event came {age:.0f} s ago.", hint="Drop the file again, or raise max_event_age.")
        return await self._c.reader.read(self._run)

    @property
    def _asking(self) -> Asking:
        return asking_of(self._run, self._asked.operators if self._asked else ())

    async def _find(self, references: tuple[Reference, ...]) -> tuple[Found, ...]:
        crowded = self._c.admission.is_crowded
        finding = self._c.finder.find(references, self._asking, waiting=self._waits, crowded=crowded)
        return await self._unless_ended(finding)

    def _waits(self, words: Sequence[str]) -> None:
        self._c.admission.waits(self._run.run_id)
        self._status.move("waiting", waiting_for=words)

    async def _plan(
        self,
        handler: Handler[Any],
        planning: Planning[Any],
        references: tuple[Reference, ...],
        found: tuple[Found, ...],
    ) -> Plan:
        sizes = [item.size for reference, item in zip(references, found, strict=True) if reference.read]
        async with self._c.parsers.place(None if None in sizes else sum(filter(None, sizes)), self._turn):
            inputs = await self._c.finder.load(references, found, self._asking)
            read = sum(len(item.content) for item in inputs.values() if item.content)
            # A long list of files takes its time, too, though nothing of them is read.
            read = max(read, min(len(references) * REFERENCE_COST, LARGE - 1))
            plan = await self._c.parsers.run(read, handler.plan, replace(planning, inputs=inputs))
            del inputs
        targets = [target.key for task in plan.tasks for target in task.outputs]
        await self._claim((*targets, *plan.writes), planning.folder)
        return plan

    async def _claim(self, keys: Sequence[str], folder: str) -> None:
        """Makes `keys` this run's, whose outputs belong into `folder`. Raises OutputTaken and OutOfReach."""
        by_operator = self._asked is not None and "path" in self._asked.operators
        await self._c.finder.check_outputs(self._asking, keys, by_operator=folder if by_operator else None)
        await self._unless_ended(self._c.outputs.secure(self._run, keys, lambda why: self._waits([why])))

    async def _dispatch(self, plan: Plan, asked: Asked) -> tuple[GpuResult, ...]:
        self._status.move("queued", operation=asked.operation)
        self._c.admission.waits(self._run.run_id)
        requests = job_requests(self._run, asked.operation, plan)
        answers = await self._steps.children([_JOB.dump_python(r, mode="json") for r in requests])
        outcomes = [_outcome(answer) for answer in answers]
        self._attempts = tuple(a for outcome in outcomes for a in outcome.attempts)
        errors = [outcome.error for outcome in outcomes if outcome.error]
        if errors:
            # A job that was ended because another one failed says nothing of why the run did.
            raise GpuDropError.from_info(min(errors, key=lambda error: error.code == RunCancelled.code))
        return tuple(o.result for o in outcomes if o.result)

    async def _finish(self, asked: Asked, finish: Finish, kept: AsyncExitStack) -> bool:
        """Outputs, then the final sidecar. A run that said its last word before a crash does not say it again.

        The outputs are made once, and stay as long as `kept`, however often the store has to be tried.
        """
        if (self._steps.resumed or self._summary is not None) and await self._is_over():
            return True
        self._c.ends.check(self._run.run_id)
        if self._summary is None:
            self._status.move("writing")
            if self._outputs is None:
                self._outputs = await kept.enter_async_context(made_outputs(finish, self._c.pool))
            await self._claim([output.key for output in self._outputs.files], finish.planning.folder)
            jobs = [attempt.job for attempt in self._attempts if attempt.job and not attempt.error]
            self._summary = await self._c.closer.write(self._run, finish.plan, finish.results, self._outputs, jobs)
        # A run that a newer one replaced leaves no sidecar: it would be taken for the newer one's.
        self._c.ends.check(self._run.run_id)
        self._final = await self._c.closer.done(self._run, asked, self._summary)
        return True

    async def _is_over(self) -> bool:
        """Whether the last word was said before, in an earlier life or by a try whose record failed.

        What the run left may have been fetched and removed since: it is neither missed nor written again.
        """
        adoption = self._c.adoption
        return await adoption.ended(self._run) or await adoption.is_recorded(self._run)

    def _output_folder(self, manifest: Manifest) -> str:
        """A trigger's template is the operator's, and may lead up; a manifest may not.

        Raises InvalidPath and OutOfReach.
        """
        may_climb = self._run.trigger.manifest is not None
        folder = output_folder(manifest.path, folder=self._run.folder, may_climb=may_climb)
        if self._asked is not None and "path" not in self._asked.operators:
            self._run.trigger.reach.check_output(self._asking.drop, folder, "path")
        return folder

    def _planning(self, asked: Asked, found: tuple[Found, ...]) -> tuple[Handler[Any], Planning[Any]]:
        """All a plan depends on but the content of its inputs, which only `_plan` reads."""
        handler = self._c.registry.get(asked.operation)
        manifest = handler.model.model_validate(asked.fields)
        planning = Planning(
            manifest=manifest,
            name=self._run.name,
            bucket=self._run.bucket,
            folder=self._output_folder(manifest),
            inputs={item.role: Input(item.media, item.size) for item in found},
        )
        return handler, planning

    async def _once(self, name: str, kind: type[T], work: Callable[[], Awaitable[T]], *, at_least_s: float = 0.0) -> T:
        """A recorded step. While the store or the ledger does not serve it, it is tried again, as long as an event may
        be old, and for `at_least_s`.
        """
        give_up_s = max(self._run.trigger.max_event_age_s, at_least_s)
        return await self._steps.once(name, kind, lambda: self._c.patience.within(give_up_s, work))

    async def _unless_ended(self, work: Awaitable[T]) -> T:
        """`work`, unless the run is to end first: then RunCancelled or RunSuperseded."""
        task = asyncio.ensure_future(work)
        ended = asyncio.ensure_future(self._c.ends.wait(self._run.run_id))
        try:
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._c.ends.check(self._run.run_id)
            return await task
        finally:
            ended.cancel()
            task.cancel()


def _outcome(answer: Any) -> JobOutcome:
    return recalled(_OUTCOME, answer if "json" in answer else {"value": answer})
