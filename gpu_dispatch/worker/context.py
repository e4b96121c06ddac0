"""What an operation of the worker is given besides its parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gpu_dispatch.task import Payload, Progress

P = TypeVar("P")

SMALLEST_LIMIT = 2**28
"""Bytes any output may have."""
GROWTH = 64
"""How many times as large as its inputs an output may be beyond that: speech at 6 kbit/s, kept as AAC, grows 32 times.
"""


@dataclass(frozen=True, slots=True)
class Job:
    """One job's private folder (inputs lie in it under their names, outputs are left in it) and its way to report.

    `report` may be called from any thread, as often as one likes; it never blocks and never raises.
    """

    folder: Path
    report: Callable[[Progress], None]

    def path(self, name: str) -> Path:
        """The file `name` in the job's folder. Names are the planner's; one with a folder in it is a defect."""
        if Path(name).name != name:
            raise ValueError(f"{name!r} is no plain file name")
        return self.folder / name

    def largest(self, *inputs: str) -> int:
        """How many bytes may come out of these inputs."""
        return SMALLEST_LIMIT + GROWTH * sum(self.path(name).stat().st_size for name in inputs)


Operation = Callable[[P, Job], Awaitable[Payload]]
"""Does the work of one kind of parameters. Cancelling it ends every process it started. Raises GpuDropError."""
