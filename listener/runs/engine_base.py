"""What runs survive the process in: an engine that records what their stories have done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from listener.runs.steps import Steps

Fate = Literal["going on", "over", "broken"]
"""How a run stands in the engine: its story goes on, has come to its end, or was broken off and will not go on."""


class Workflows(Protocol):
    """What the engine runs. Both calls are started again from the top after a crash; only `Steps` remembers."""

    async def run(self, request: Any, steps: Steps) -> None: ...

    async def job(self, request: Any, steps: Steps) -> Any: ...


class RunEngine(Protocol):
    """Tells runs, each once, and goes on with them after a crash. All that asks its records raises StoreUnavailable."""

    @property
    def executor(self) -> str:
        """The name of this process among those that use the same records."""
        ...

    @property
    def running(self) -> int:
        """Runs whose story is being told in this process, or is about to be."""
        ...

    def is_running(self, run_id: str) -> bool:
        """Whether the run is one of them."""
        ...

    async def submit(self, run_id: str, request: Any) -> None:
        """Records the run and starts it. The same `run_id` again changes nothing, nor that of one that is leaving."""
        ...

    async def executors(self) -> set[str]:
        """Everybody who has unfinished work here."""
        ...

    async def outdated(self, executor_id: str) -> list[str]:
        """Runs that `executor_id` left unfinished under another version: what is recorded of them is not understood."""
        ...

    async def fates(self, run_ids: Sequence[str]) -> dict[str, Fate]:
        """What has become of runs; one that is not among them is unknown here."""
        ...

    def let_go(self, run_ids: Sequence[str]) -> None:
        """Runs that were released are recorded elsewhere now."""
        ...

    async def drop(self, run_ids: Sequence[str]) -> None:
        """Forgets runs and their jobs, ended or not: submitted again, they are told from the top."""
        ...

    async def adopt(self, executor_id: str) -> int:
        """Takes over what a process that is gone for certain left unfinished, jobs included; returns how many."""
        ...

    async def forget(self, before: float) -> int:
        """Deletes runs that ended before `before` (epoch seconds), jobs included, some at a time; returns how many."""
        ...
