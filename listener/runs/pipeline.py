"""What the engine runs: every run is told to its end, whatever that is, and every job of it."""

from __future__ import annotations

from typing import Any

import structlog
from pydantic import TypeAdapter

from listener.defects import DEFECT
from listener.dispatch.request import JobRequest
from listener.fair_shares import share_of, turn_of
from listener.ledger.fair_thread import in_turn
from listener.patience import report_waits
from listener.run_request import RunRequest
from listener.runs.collaborators import RunServices
from listener.runs.jobs import JobOutcome
from listener.runs.steps import Released, Steps, adapter_of
from listener.runs.telling import RunWorkflow
from manifests.errors import ErrorInfo, GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.runs")

_REQUEST: TypeAdapter[RunRequest] = TypeAdapter(RunRequest)
_JOB: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)
_OUTCOME: TypeAdapter[JobOutcome] = adapter_of(JobOutcome)


class RunWorkflows:
    def __init__(self, collaborators: RunServices) -> None:
        self._c = collaborators

    async def run(self, request: Any, steps: Steps) -> None:
        run = _REQUEST.validate_python(request)
        self._c.admission.told(run.run_id, share_of(run.bucket, run.key))
        try:
            with in_turn(turn_of(run.bucket, run.key)):
                async with self._c.publisher.open(run) as status:
                    with report_waits(lambda reason: self._c.publisher.held(run.run_id, reason)):
                        await self._tell(RunWorkflow(self._c, run, steps, status), run)
        finally:
            self._c.admission.ended(run.run_id)

    async def _tell(self, workflow: RunWorkflow, run: RunRequest) -> None:
        try:
            await self._end(workflow, await self._problem(workflow, run))
        except GpuDropError as e:
            log.error("run_end_not_written", run_id=run.run_id, key=run.key, error=str(e), hint=e.info.hint)
            await self._c.outages.retry(self._c.finalizer.give_up, run, e.info)
        finally:
            workflow.leave_room()
            self._c.cancellations.forget(run.run_id)

    async def _problem(self, workflow: RunWorkflow, run: RunRequest) -> ErrorInfo | None:
        """Tells the tale; what went wrong with it, if anything."""
        try:
            await workflow.tell()
        except Released:
            raise
        except GpuDropError as e:
            return e.info
        except Exception:
            # The supervisor of a run: a defect ends this run, not the listener.
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
        with turn, report_waits(lambda reason: self._c.publisher.held(job.run_id, reason)):
            outcome = await self._c.runner.run(job, steps)
        return _OUTCOME.dump_python(outcome, mode="json")
