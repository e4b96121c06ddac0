"""The interface of an engine that executes runs durably by recording their steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from listener.runs.steps import Steps

Fate = Literal["going on", "over", "broken"]
"""How a run stands in the engine: it is unfinished, has ended, or stopped before its end and will not resume."""


class Workflows(Protocol):
    """What the engine executes. Both calls start from the beginning after a crash; only `Steps` remembers."""

    async def run(self, request: Any, steps: Steps) -> None: ...

    async def job(self, request: Any, steps: Steps) -> Any: ...


class RunEngine(Protocol):
    """Executes each run once, and resumes it after a crash. Whatever reads its records raises StoreUnavailable."""

    @property
    def executor(self) -> str:
        """This process's name among those that use the same records."""
        ...

    @property
    def running(self) -> int:
        """Runs whose workflow executes in this process, or is about to."""
        ...

    def is_running(self, run_id: str) -> bool:
        """Whether the run is one of `running`."""
        ...

    async def submit(self, run_id: str, request: Any) -> None:
        """Records the run and starts it; does nothing for a run that is known already or is being released."""
        ...

    async def executors(self) -> set[str]:
        """Returns the executors with unfinished work."""
        ...

    async def outdated(self, executor_id: str) -> list[str]:
        """Returns the runs that `executor_id` left unfinished under another version: they cannot be resumed."""
        ...

    async def fates(self, run_ids: Sequence[str]) -> dict[str, Fate]:
        """Returns the fates of runs; those of unknown ones are missing."""
        ...

    def forget_released(self, run_ids: Sequence[str]) -> None:
        """Ends the release of runs: they are recorded elsewhere now."""
        ...

    async def drop(self, run_ids: Sequence[str]) -> None:
        """Deletes runs and their jobs, ended or not: submitted again, they start over."""
        ...

    async def adopt(self, executor_id: str) -> int:
        """Takes over what a process that is certainly gone left unfinished, jobs included; returns how many."""
        ...

    async def forget(self, before: float) -> int:
        """Deletes some runs that ended before `before` (epoch seconds), jobs included; returns how many."""
        ...
