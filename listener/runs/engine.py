"""Executes runs as durable workflows that survive the process: a small, typed wrapper of DBOS.

A run is one durable workflow. Its only GPU job is executed inside it; of several, each is a child workflow of its own,
because several coroutines with recorded steps inside one workflow would get each other's results after a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID, WorkflowStatus
from dbos import error as dbos_error
from sqlalchemy.exc import SQLAlchemyError

from listener.ledger.database import in_chunks
from listener.ledger.files import prepare_sqlite
from listener.runs.engine_base import Fate, Workflows
from listener.runs.engine_setup import WorkflowTasks, quieten, refuse_pickle, silence, start_error
from listener.runs.steps import DurableSteps, JobWorkflows, Released
from manifests.errors import StoreUnavailable

APPLICATION_VERSION = "2"
"""Changes with the order and names of recorded steps; `WorkflowEngine.outdated` gives what another version left
unfinished. Pinned: the default is a hash of the source, and runs of an older source would silently wait for ever."""

MAX_RECOVERIES = 1000
_RUN = "run"
_ADOPTED = "adopted"
_ADOPTED_AT_ONCE = 1000
_JOIN_S = 3.0
_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_BATCH = 200
_THREADS = 8
"""Threads for the engine's database and every `to_thread`. More only wait for one another: 32 cost a fifth more."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Where the engine keeps its records, and how this process uses them."""

    database_url: str
    """sqlite:///FILE or postgresql://…"""
    executor_id: str = "local"
    """Names this process among several."""
    adopts: bool = False
    """Whether others use the same database, and this process may take over what one of them left unfinished."""


class WorkflowEngine:
    """Executes runs as DBOS workflows. One per process: DBOS keeps global state."""

    def __init__(
        self,
        settings: EngineSettings,
        workflows: Workflows,
        *,
        ended: Callable[[], None] = lambda: None,
        released: Callable[[str, Released], None] | None = None,
    ) -> None:
        """`ended` is called whenever a run's workflow has ended; `released` with the id of a run that leaves the engine
        before its end: it is to be dropped here and recorded elsewhere, and then `forget_released`."""
        self._settings = settings
        self._ended = ended
        self._workflows = workflows
        self._workflow_tasks = WorkflowTasks()
        self._released = released
        self._running: set[str] = set()
        self._leaving: set[str] = set()
        self._run_workflow: Callable[[Any], Any] | None = None

    async def start(self) -> None:
        """Starts, and resumes what an earlier process left unfinished. Raises StateError and StoreUnavailable."""
        quieten()
        refuse_pickle()
        prepare_sqlite(self._settings.database_url, "The engine's database")
        config: DBOSConfig = {
            "name": "gpudrop",
            "system_database_url": self._settings.database_url,
            "application_version": APPLICATION_VERSION,
            "executor_id": self._settings.executor_id,
            "max_executor_threads": _THREADS,
            "log_level": "WARNING",
            "serializer": DBOSPortableJSONSerializer(),
            "use_listen_notify": False,
        }
        try:
            await self._launch(config)
        except (SQLAlchemyError, dbos_error.DBOSException) as e:
            await self.close()
            raise start_error(e, self._settings.database_url) from e

    async def _launch(self, config: DBOSConfig) -> None:
        DBOS(config=config)
        self._register()
        DBOS.launch()
        quieten()
        if self._settings.adopts:
            await DBOS.register_queue_async(
                _ADOPTED,
                worker_concurrency=_ADOPTED_AT_ONCE,
                polling_interval_sec=1.0,
                on_conflict="always_update",
            )

    @property
    def executor(self) -> str:
        return self._settings.executor_id

    @property
    def adopts(self) -> bool:
        return self._settings.adopts

    @property
    def running(self) -> int:
        """Runs whose workflow executes in this process, or is about to."""
        return len(self._running)

    def is_running(self, run_id: str) -> bool:
        """Whether the run is one of `running`."""
        return run_id in self._running

    async def submit(self, run_id: str, request: Any) -> None:
        """Records the run and starts it; does nothing for a run that is known already or is being released. Raises
        StoreUnavailable when it could not be recorded."""
        if self._run_workflow is None:
            raise RuntimeError("the engine is not started")
        if run_id in self._leaving:
            return
        with (
            _translated_errors("record a run", hint="Check disk space, and that its database answers."),
            SetWorkflowID(run_id),
        ):
            handle: Any = await DBOS.start_workflow_async(self._run_workflow, request)
        # A run that was known already has no task: it executes already, or has ended.
        task: asyncio.Future[Any] | None = getattr(handle, "task", None)
        if task is not None and not task.done():
            self._running.add(run_id)
            task.add_done_callback(lambda _: self._running.discard(run_id))

    async def executors(self) -> set[str]:
        """Returns the executors with unfinished work. Raises StoreUnavailable."""
        return {w.executor_id or "" for w in await self._unfinished()}

    async def outdated(self, executor_id: str) -> list[str]:
        """Returns the runs that `executor_id` left unfinished under another version. They cannot be resumed: their
        records are not understood. Raises StoreUnavailable."""
        found = await self._unfinished()
        return [w.workflow_id for w in found if w.name == _RUN and w.executor_id == executor_id and _is_outdated(w)]

    async def fates(self, run_ids: Sequence[str]) -> dict[str, Fate]:
        """Returns the fates of runs; those of unknown ones are missing. Raises StoreUnavailable."""
        found: list[WorkflowStatus] = []
        with _translated_errors("list its runs"):
            for some in in_chunks(run_ids):
                found += await DBOS.list_workflows_async(workflow_ids=some, load_input=False, load_output=False)
        leaving: dict[str, Fate] = dict.fromkeys(self._leaving.intersection(run_ids), "going on")
        return {**{w.workflow_id: _fate(w) for w in found}, **leaving}

    def forget_released(self, run_ids: Sequence[str]) -> None:
        """Ends the release of runs: they are recorded elsewhere now."""
        self._leaving.difference_update(run_ids)

    async def drop(self, run_ids: Sequence[str]) -> None:
        """Deletes runs and their jobs, ended or not: submitted again, they start over. Raises StoreUnavailable."""
        with _translated_errors("forget runs"):
            for some in in_chunks(run_ids):
                await DBOS.delete_workflows_async(some, delete_children=True)

    async def adopt(self, executor_id: str) -> int:
        """Takes over what a process that is certainly gone left unfinished, jobs included; returns how many. Each
        resumes where it was, in this process or another one that adopts. Raises StoreUnavailable."""
        unfinished = await self._unfinished()
        found = [w.workflow_id for w in unfinished if w.executor_id == executor_id and not _is_outdated(w)]
        with _translated_errors("take over runs"):
            for some in in_chunks(found):
                await DBOS.resume_workflows_async(some, queue_name=_ADOPTED)
        return len(found)

    async def _unfinished(self) -> list[WorkflowStatus]:
        """Returns workflows that execute, and outdated ones that wait to be adopted: no process takes those."""
        with _translated_errors("list its runs"):
            found = await DBOS.list_workflows_async(status=["PENDING", "ENQUEUED"], load_input=False, load_output=False)
        return [w for w in found if w.status == "PENDING" or _is_outdated(w)]

    async def forget(self, before: float) -> int:
        """Deletes some runs that ended before `before` (epoch seconds), jobs included; returns how many. Raises
        StoreUnavailable."""
        moment = datetime.fromtimestamp(before, UTC).isoformat()
        with _translated_errors("delete old runs"):
            found = await DBOS.list_workflows_async(
                name=_RUN, status=_ENDED, completed_before=moment, limit=_BATCH, load_input=False, load_output=False
            )
            if found:
                await DBOS.delete_workflows_async([w.workflow_id for w in found], delete_children=True)
        return len(found)

    async def close(self) -> None:
        """Stops within a few seconds. Unfinished runs stay recorded as such and resume at the next start. Workflows are
        cancelled first: without the threads that end here they would fail, and count as ended.

        DBOS's own shutdown ends threads before workflows, which then fail with "cannot schedule new futures after
        shutdown". Cancelling records nothing, because DBOS takes only exceptions of the workflow for its end. One that
        does not end within _JOIN_S is left to itself; its jobs are kept.
        """
        await self._workflow_tasks.cancel_all(_JOIN_S)
        silence()
        # DBOS made its own threads the loop's and ends them, so the loop gets others. What was given to DBOS's threads
        # has to begin first: DBOS cancels what has not.
        loop = asyncio.get_running_loop()
        begun = loop.run_in_executor(None, int)
        loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
        await asyncio.wait({begun}, timeout=_JOIN_S)
        await asyncio.to_thread(DBOS.destroy, destroy_registry=True)

    def _release(self, run_id: str, why: Released) -> None:
        """Releases the run once the workflow's end is recorded: nothing of it may be written after it was dropped. A
        workflow that another process has taken over ends as it does there, and is not this listener's to drop."""

        def recorded(task: asyncio.Task[Any]) -> None:
            ended = None if task.cancelled() else task.exception()
            if self._released and isinstance(ended, Released | SQLAlchemyError):
                self._released(run_id, why)
            else:
                self._leaving.discard(run_id)

        self._leaving.add(run_id)
        if task := asyncio.current_task():
            task.add_done_callback(recorded)

    def _register(self) -> None:
        workflows = self._workflows

        async def inside(request: Any) -> Any:
            return await workflows.job(request, DurableSteps())

        @DBOS.workflow(name="job", max_recovery_attempts=MAX_RECOVERIES)
        async def job(request: Any) -> Any:
            with self._workflow_tasks.track():
                return await inside(request)

        @DBOS.workflow(name=_RUN, max_recovery_attempts=MAX_RECOVERIES)
        async def run(request: Any) -> None:
            run_id = str(DBOS.workflow_id)
            with self._workflow_tasks.track():
                self._running.add(run_id)
                try:
                    await workflows.run(request, DurableSteps(JobWorkflows(job, inside)))
                except Released as why:
                    self._release(run_id, why)
                    raise
                finally:
                    self._running.discard(run_id)
                    self._ended()

        self._run_workflow = run


@contextmanager
def _translated_errors(do: str, *, hint: str = "Check its database.") -> Generator[None]:
    """Turns the engine's errors inside into StoreUnavailable, with what it cannot `do`."""
    try:
        yield
    except (SQLAlchemyError, dbos_error.DBOSException) as e:
        raise StoreUnavailable(f"The engine cannot {do}: {e}.", hint=hint) from e


def _is_outdated(workflow: WorkflowStatus) -> bool:
    return workflow.app_version != APPLICATION_VERSION


def _fate(workflow: WorkflowStatus) -> Fate:
    if workflow.status not in _ENDED:
        return "going on"
    return "over" if workflow.status == "SUCCESS" else "broken"
