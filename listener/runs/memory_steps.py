"""Recorded steps in this process's memory, for tests that execute a run again and again within milliseconds."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter

from listener.runs.steps import Steps, adapter_of, recorded_value
from manifests.errors import ErrorInfo, GpuDropError
from manifests.task_groups import gather_all

T = TypeVar("T")
JobWorkflow = Callable[[Any, Steps], Awaitable[Any]]
Sleep = Callable[[float], Awaitable[None]]

_ERROR: TypeAdapter[ErrorInfo] = TypeAdapter(ErrorInfo)


@dataclass(slots=True)
class StepRecord:
    """The recorded steps of one workflow; it outlives executions, and is replayed by the next."""

    steps: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Name and outcome of each step, as JSON, in order."""
    children: dict[int, StepRecord] = field(default_factory=dict[int, "StepRecord"])
    """By number."""
    answer: str | None = None
    """A child's result, as JSON; None: it has not ended."""

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.steps]


@dataclass(slots=True)
class _Cursor:
    """How far an execution has come in its record."""

    record: StepRecord
    next: int = 0


class MemorySteps:
    """`Steps` of one execution of the workflow that `record` belongs to. `job` executes a child. `sleep` waits, and may
    return at once in tests. `clock` gives epoch seconds."""

    def __init__(
        self,
        record: StepRecord | None = None,
        job: JobWorkflow | None = None,
        *,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._place = _Cursor(StepRecord() if record is None else record)
        self._job = job
        self._sleep = sleep
        self._clock = clock
        self._resumed = False

    @property
    def resumed(self) -> bool:
        return self._resumed

    async def once(self, name: str, kind: type[T], work: Callable[[], Awaitable[T]]) -> T:
        """Raises RuntimeError when another step was recorded here: the workflow has changed since it was recorded."""
        adapter: TypeAdapter[T] = adapter_of(kind)
        recorded = self._recall(name)
        if recorded is None:
            try:
                value = await work()
            except GpuDropError as e:
                self._record(name, {"error": _ERROR.dump_python(e.info, mode="json")})
                raise GpuDropError.from_info(e.info) from e
            self._record(name, {"value": adapter.dump_python(value, mode="json")})
            return value
        self._resumed = True
        if "error" in recorded:
            raise GpuDropError.from_info(_ERROR.validate_python(recorded["error"]))
        return recorded_value(adapter, recorded)

    async def pause(self, seconds: float) -> None:
        recorded = self._recall("pause")
        until = self._clock() + seconds if recorded is None else float(recorded["value"])
        if recorded is None:
            self._record("pause", {"value": until})
        await self._sleep(max(0.0, until - self._clock()))

    async def children(self, requests: Sequence[Any]) -> list[Any]:
        if self._job is None:
            raise RuntimeError("a job has no children")
        if len(requests) == 1:
            return [await self._job(requests[0], self._inside())]
        job, record = self._job, self._place.record
        told = (
            self._child(job, request, record.children.setdefault(i, StepRecord())) for i, request in enumerate(requests)
        )
        return await gather_all(told)

    def _inside(self) -> MemorySteps:
        """Returns the steps of an only child, which are recorded among this workflow's own."""
        steps = MemorySteps(self._place.record, sleep=self._sleep, clock=self._clock)
        steps._place = self._place
        return steps

    async def _child(self, job: JobWorkflow, request: Any, record: StepRecord) -> Any:
        if record.answer is None:
            answer = await job(request, MemorySteps(record, sleep=self._sleep, clock=self._clock))
            record.answer = json.dumps(answer)
        return json.loads(record.answer)

    def _recall(self, name: str) -> Any:
        """Returns what was recorded of the next step; None: nothing yet."""
        place = self._place
        if place.next >= len(place.record.steps):
            return None
        known, text = place.record.steps[place.next]
        if known != name:
            raise RuntimeError(f"the step {known!r} was recorded where {name!r} comes now")
        place.next += 1
        return json.loads(text)

    def _record(self, name: str, document: Any) -> None:
        self._place.record.steps.append((name, json.dumps(document)))
        self._place.next += 1
