"""The workflow of one run: prepare, dispatch, finish, call back. Every run is brought to its end, whatever that is.

Three steps are recorded beside those of the jobs. A step that was not completed, and what is not a step at all, is done
again after a crash and must be harmless then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import structlog
from pydantic import TypeAdapter

from gpu_dispatch.task import GpuResult
from handlers.base import Plan
from listener.defects import DEFECT
from listener.dispatch.request import JobRequest
from listener.fairness import share_of, turn_of
from listener.ledger.fair_thread import in_turn
from listener.outages import report_waits
from listener.run_request import RunRequest
from listener.runs.finalizer import RunSummary
from listener.runs.jobs import AttemptRecord, JobOutcome, job_requests
from listener.runs.manifests import ResolvedManifest
from listener.runs.outputs import FinishCall, MadeOutputs, made_outputs
from listener.runs.preparation import Preparation, Prepared
from listener.runs.services import RunServices
from listener.runs.status import RunStatusWriter
from listener.runs.steps import Released, Steps, adapter_of, recorded_value
from manifests.errors import ErrorInfo, GpuDropError, RunCancelled, RunSuperseded
from manifests.sidecars import without_callback

T = TypeVar("T")
_JOB: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)
_OUTCOME: TypeAdapter[JobOutcome] = adapter_of(JobOutcome)

MIN_RETRY_S = 86400.0
"""Seconds that writing a finished run waits for the store, at least: its work is paid for."""


class RunWorkflow:
    """One execution of one run's workflow."""

    def __init__(self, c: RunServices, run: RunRequest, steps: Steps, status: RunStatusWriter) -> None:
        self._services = c
        self._run = run
        self._steps = steps
        self._status = status
        self._preparation = Preparation(c, run, status)
        self._resolved: ResolvedManifest | None = None
        self._callback_url: str | None = None
        self._attempts: tuple[AttemptRecord, ...] = ()
        self._outputs: MadeOutputs | None = None
        self._summary: RunSummary | None = None
        self._final: bytes | None = None

    async def execute(self) -> None:
        prepared = await self._once("prepare", Prepared, self._preparation.prepare)
        if prepared.ended:
            self._callback_url = prepared.callback_url
            return
        manifest = self._resolved = prepared.asked
        self._callback_url = manifest.callback_url if manifest else prepared.callback_url
        if manifest is None or prepared.plan is None:
            raise GpuDropError.from_info(prepared.error or DEFECT)
        handler, planning = self._preparation.planning(manifest, prepared.found)
        results = await self._dispatch(prepared.plan, manifest)
        finish = FinishCall(handler, planning, prepared.plan, results)
        async with AsyncExitStack() as kept:
            await self._once("finish", bool, lambda: self._finish(manifest, finish, kept), at_least_s=MIN_RETRY_S)

    async def fail(self, error: ErrorInfo) -> None:
        again = self._steps.resumed

        async def close() -> bool:
            nonlocal again
            if not (again and error.code != RunSuperseded.code and await self._is_over()):
                again = True
                manifest = self._resolved or self._preparation.asked
                self._final = await self._services.finalizer.failed(self._run, manifest, error, self._attempts)
            return True

        await self._once("failed", bool, close, at_least_s=MIN_RETRY_S)

    async def call_back(self) -> None:
        if url := self._callback_url:
            await self._once("callback", bool, lambda: self._call_back(url), at_least_s=MIN_RETRY_S)

    async def clear(self) -> None:
        """Removes the jobs' answers, after the last step: until then the run may have to start over, and needs them."""
        await self._services.runner.forget(self._run.bucket, self._attempts)

    def leave_room(self) -> None:
        self._preparation.leave_room()

    async def _call_back(self, url: str) -> bool:
        """Records the callback with the run's own final sidecar: a newer run's may lie in its place by now."""
        body = self._final or await self._services.adoption.final_sidecar(self._run)
        if body is None:
            return False
        await self._services.outbox.add(self._run.run_id, url, await asyncio.to_thread(without_callback, body))
        return True

    async def _dispatch(self, plan: Plan, manifest: ResolvedManifest) -> tuple[GpuResult, ...]:
        self._status.move("queued", operation=manifest.operation)
        self._services.admission.started(self._run.run_id)
        requests = job_requests(self._run, manifest.operation, plan)
        answers = await self._steps.children([_JOB.dump_python(r, mode="json") for r in requests])
        outcomes = [_outcome(answer) for answer in answers]
        self._attempts = tuple(a for outcome in outcomes for a in outcome.attempts)
        errors = [outcome.error for outcome in outcomes if outcome.error]
        if errors:
            # A job that was cancelled because another one failed does not say why the run failed.
            raise GpuDropError.from_info(min(errors, key=lambda error: error.code == RunCancelled.code))
        return tuple(o.result for o in outcomes if o.result)

    async def _finish(self, manifest: ResolvedManifest, finish: FinishCall, kept: AsyncExitStack) -> bool:
        """Writes the outputs, then the final sidecar; nothing if the run ended before a crash. The outputs are made
        once, and stay as long as `kept`, however often the store has to be tried."""
        if (self._steps.resumed or self._summary is not None) and await self._is_over():
            return True
        self._services.cancellations.check(self._run.run_id)
        if self._summary is None:
            self._status.move("writing")
            if self._outputs is None:
                self._outputs = await kept.enter_async_context(made_outputs(finish, self._services.pool))
            keys = [output.key for output in self._outputs.files]
            await self._preparation.claim(manifest, keys, finish.planning.folder)
            jobs = [attempt.job for attempt in self._attempts if attempt.job and not attempt.error]
            self._summary = await self._services.finalizer.write(
                self._run, finish.plan, finish.results, self._outputs, jobs
            )
        # A superseded run leaves no sidecar: it would be taken for the newer run's.
        self._services.cancellations.check(self._run.run_id)
        self._final = await self._services.finalizer.done(self._run, manifest, self._summary)
        return True

    async def _is_over(self) -> bool:
        """Whether the run's end was written before, in an earlier execution or by a try whose record failed. What the
        run left may have been fetched and removed since: it is neither missed nor written again."""
        adoption = self._services.adoption
        return await adoption.ended(self._run) or await adoption.is_recorded(self._run)

    async def _once(self, name: str, kind: type[T], work: Callable[[], Awaitable[T]], *, at_least_s: float = 0.0) -> T:
        """Executes a recorded step. While the store or the ledger is away it is tried again, for as long as an event
        may be old, and at least for `at_least_s`."""
        give_up_s = max(self._run.trigger.max_event_age_s, at_least_s)
        return await self._steps.once(name, kind, lambda: self._services.outages.within(give_up_s, work))


def _outcome(answer: Any) -> JobOutcome:
    return recorded_value(_OUTCOME, answer if "json" in answer else {"value": answer})


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.runs")

_REQUEST: TypeAdapter[RunRequest] = TypeAdapter(RunRequest)


class RunWorkflows:
    """Executes the workflows of runs and jobs for the engine."""

    def __init__(self, services: RunServices) -> None:
        self._services = services

    async def run(self, request: Any, steps: Steps) -> None:
        run = _REQUEST.validate_python(request)
        self._services.admission.executing(run.run_id, share_of(run.bucket, run.key))
        try:
            with in_turn(turn_of(run.bucket, run.key)):
                async with self._services.publisher.open(run) as status:
                    with report_waits(lambda reason: self._services.publisher.held(run.run_id, reason)):
                        await self._execute(RunWorkflow(self._services, run, steps, status), run)
        finally:
            self._services.admission.ended(run.run_id)

    async def _execute(self, workflow: RunWorkflow, run: RunRequest) -> None:
        try:
            await self._end(workflow, await self._outcome_error(workflow, run))
        except GpuDropError as e:
            log.error("run_end_not_written", run_id=run.run_id, key=run.key, error=str(e), hint=e.info.hint)
            await self._services.outages.retry(self._services.finalizer.give_up, run, e.info)
        finally:
            workflow.leave_room()
            self._services.cancellations.forget(run.run_id)

    async def _outcome_error(self, workflow: RunWorkflow, run: RunRequest) -> ErrorInfo | None:
        """Executes the workflow; returns what went wrong, if anything."""
        try:
            await workflow.execute()
        except Released:
            raise
        except GpuDropError as e:
            return e.info
        except Exception:
            # A defect ends this run, not the listener.
            log.exception("run_defect", run_id=run.run_id, key=run.key)
            return DEFECT
        return None

    async def _end(self, workflow: RunWorkflow, problem: ErrorInfo | None) -> None:
        if problem:
            await workflow.fail(problem)
        await workflow.call_back()
        await workflow.clear()

    async def job(self, request: Any, steps: Steps) -> Any:
        job = _JOB.validate_python(request)
        turn = in_turn(turn_of(job.bucket, job.key))
        with turn, report_waits(lambda reason: self._services.publisher.held(job.run_id, reason)):
            outcome = await self._services.runner.run(job, steps)
        return _OUTCOME.dump_python(outcome, mode="json")
