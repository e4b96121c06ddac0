"""Recorded steps: what a workflow has done stays done when its process is restarted.

A step's result is recorded as JSON and the step never done again; an error that ends it is recorded too, as an
`ErrorInfo`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeVar

from dbos import DBOS, SetWorkflowID
from pydantic import TypeAdapter

from manifests.errors import ErrorInfo, GpuDropError

T = TypeVar("T")


class Released(Exception):
    """Ends an execution before its run has ended: the run waits elsewhere, and starts over later.

    Raised only before anything is recorded of the run that must not happen twice. The step that it ends is not recorded
    either: after a crash it is done again.
    """


class _Unrecorded(BaseException):
    """Carries a Released out of a step: the engine records errors, and would raise them again as something else."""

    def __init__(self, released: Released) -> None:
        super().__init__(str(released))
        self.released = released


class Steps(Protocol):
    """Records the progress of a run or a job."""

    @property
    def resumed(self) -> bool:
        """Whether a recorded step was replayed: what comes next may have been done and not recorded."""
        ...

    async def once(self, name: str, kind: type[T], work: Callable[[], Awaitable[T]]) -> T:
        """Returns the result of `work`, which is completed at most once over all executions. `kind` reads it back."""
        ...

    async def pause(self, seconds: float) -> None:
        """Sleeps so many seconds; after a crash only the rest."""
        ...

    async def children(self, requests: Sequence[Any]) -> list[Any]:
        """Executes a job workflow for every request, side by side; returns their results in order. A single one is
        executed within the run's own workflow: that is one workflow less to record."""
        ...


@dataclass(frozen=True, slots=True)
class JobWorkflows:
    """How a run's jobs are executed."""

    apart: Callable[[Any], Any]
    """As a workflow of its own."""
    inside: Callable[[Any], Awaitable[Any]]
    """Inside the run's workflow."""


class DurableSteps:
    """`Steps` inside one DBOS workflow; made anew for every execution. Without `jobs` it has no children."""

    def __init__(self, jobs: JobWorkflows | None = None) -> None:
        self._jobs = jobs
        self._resumed = False

    @property
    def resumed(self) -> bool:
        return self._resumed

    async def once(self, name: str, kind: type[T], work: Callable[[], Awaitable[T]]) -> T:
        adapter: TypeAdapter[T] = adapter_of(kind)
        done: list[T] = []
        worked = False

        async def recorded() -> Any:
            nonlocal worked
            worked = True
            try:
                done.append(await work())
            except GpuDropError as e:
                return {"error": _ERROR.dump_python(e.info, mode="json")}
            except Released as e:
                raise _Unrecorded(e) from e
            return {"value": adapter.dump_python(done[0], mode="json")}

        try:
            answer: Any = await DBOS.run_step_async({"name": name}, recorded)
        except _Unrecorded as e:
            raise e.released from None
        self._resumed = self._resumed or not worked
        if done:
            return done[0]
        if "error" in answer:
            raise GpuDropError.from_info(_ERROR.validate_python(answer["error"]))
        return recorded_value(adapter, answer)

    async def pause(self, seconds: float) -> None:
        await DBOS.sleep_async(seconds)

    async def children(self, requests: Sequence[Any]) -> list[Any]:
        if self._jobs is None:
            raise RuntimeError("a job has no children")
        if len(requests) == 1:
            return [await self._jobs.inside(requests[0])]
        handles: list[Any] = []
        for i, request in enumerate(requests):
            with SetWorkflowID(f"{DBOS.workflow_id}-j{i}"):
                handles.append(await DBOS.start_workflow_async(self._jobs.apart, request))
        return [await handle.get_result() for handle in handles]


def recorded_value(adapter: TypeAdapter[T], recorded: Any) -> T:
    """Returns the recorded value; some records hold a large one as JSON within the JSON."""
    return adapter.validate_json(recorded["json"]) if "json" in recorded else adapter.validate_python(recorded["value"])


@cache
def adapter_of(kind: type[T]) -> TypeAdapter[T]:
    """Returns what reads and writes the results of such steps."""
    return TypeAdapter(kind)


_ERROR: TypeAdapter[ErrorInfo] = TypeAdapter(ErrorInfo)
