"""An engine that keeps its records in this process's memory, for tests of what starts, ends and recovers runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from listener.runs.engine_base import Fate, Workflows
from listener.runs.memory_steps import MemorySteps, Sleep, StepRecord
from listener.runs.steps import Released

_VERSION = "now"


@dataclass(slots=True)
class RecordedRun:
    """One recorded run."""

    request: Any
    executor: str
    version: str = _VERSION
    fate: Fate = "going on"
    ended: float = 0.0
    """When it ended, in epoch seconds."""
    steps: StepRecord = field(default_factory=StepRecord)


Records = dict[str, RecordedRun]
"""By run id. They outlive an engine: another one resumes them."""


class MemoryEngine:
    """A `RunEngine` in memory. Belongs to one event loop; `ended` and `released` are those of `WorkflowEngine`."""

    def __init__(
        self,
        workflows: Workflows,
        records: Records | None = None,
        *,
        executor: str = "local",
        ended: Callable[[], None] = lambda: None,
        released: Callable[[str, Released], None] | None = None,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.records: Records = {} if records is None else records
        self._story = workflows
        self._executor = executor
        self._ended = ended
        self._released = released
        self._sleep = sleep
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leaving: set[str] = set()

    async def start(self) -> None:
        """Resumes what an earlier engine of this name left unfinished."""
        for run_id, known in self.records.items():
            if known.executor == self._executor and known.fate == "going on" and known.version == _VERSION:
                self._start(run_id, known)

    @property
    def executor(self) -> str:
        return self._executor

    @property
    def running(self) -> int:
        return len(self._tasks)

    def is_running(self, run_id: str) -> bool:
        return run_id in self._tasks

    async def submit(self, run_id: str, request: Any) -> None:
        if run_id in self.records or run_id in self._leaving:
            return
        self.records[run_id] = RecordedRun(request, self._executor)
        self._start(run_id, self.records[run_id])

    async def executors(self) -> set[str]:
        return {known.executor for known in self.records.values() if known.fate == "going on"}

    async def outdated(self, executor_id: str) -> list[str]:
        return [run_id for run_id, known in self._unfinished(executor_id) if known.version != _VERSION]

    async def fates(self, run_ids: Sequence[str]) -> dict[str, Fate]:
        leaving: dict[str, Fate] = dict.fromkeys(self._leaving.intersection(run_ids), "going on")
        return {**{run_id: self.records[run_id].fate for run_id in run_ids if run_id in self.records}, **leaving}

    def forget_released(self, run_ids: Sequence[str]) -> None:
        self._leaving.difference_update(run_ids)

    async def drop(self, run_ids: Sequence[str]) -> None:
        for run_id in run_ids:
            self.records.pop(run_id, None)

    async def adopt(self, executor_id: str) -> int:
        found = [each for each in self._unfinished(executor_id) if each[1].version == _VERSION]
        for run_id, known in found:
            known.executor = self._executor
            self._start(run_id, known)
        return len(found)

    async def forget(self, before: float) -> int:
        old = [run_id for run_id, known in self.records.items() if known.fate != "going on" and known.ended < before]
        await self.drop(old)
        return len(old)

    async def close(self) -> None:
        """Stops. Unfinished runs stay recorded as such, and resume in the next engine with these records."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _unfinished(self, executor_id: str) -> list[tuple[str, RecordedRun]]:
        return [
            (run_id, known)
            for run_id, known in self.records.items()
            if known.executor == executor_id and known.fate == "going on"
        ]

    def _start(self, run_id: str, known: RecordedRun) -> None:
        if run_id not in self._tasks:
            task = asyncio.create_task(self._execute(run_id, known), name=f"run {run_id}")
            # Marks the exception as retrieved: `fates` reports it.
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._tasks[run_id] = task

    async def _execute(self, run_id: str, known: RecordedRun) -> None:
        steps = MemorySteps(known.steps, self._story.job, sleep=self._sleep, clock=self._clock)
        fate: Fate = "broken"
        why: Released | None = None
        try:
            await self._story.run(known.request, steps)
            fate = "over"
        except Released as e:
            why = e
            self._leaving.add(run_id)
        except asyncio.CancelledError:
            fate = "going on"
            raise
        finally:
            known.fate, known.ended = fate, self._clock()
            del self._tasks[run_id]
            self._ended()
        if why is not None and self._released:
            self._released(run_id, why)
        else:
            self._leaving.discard(run_id)
