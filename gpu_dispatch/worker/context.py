"""What an operation of the worker is given besides its parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gpu_dispatch.output_sizes import largest_clip, largest_from
from gpu_dispatch.task import Payload, Progress

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class JobContext:
    """One job's private folder (inputs lie in it under their names, outputs are left in it) and its way to report.

    `report` may be called from any thread, as often as one likes; it never blocks and never raises. `most`: bytes any
    output may have, 0 for what its inputs allow.
    """

    folder: Path
    report: Callable[[Progress], None]
    most: int = 0

    def path(self, name: str) -> Path:
        """The file `name` in the job's folder. Names are the planner's; one with a folder in it is a defect."""
        if Path(name).name != name:
            raise ValueError(f"{name!r} is no plain file name")
        return self.folder / name

    def largest(self, *inputs: str) -> int:
        """How many bytes may come out of these inputs."""
        return largest_from(sum(self.path(name).stat().st_size for name in inputs), self.most)

    def largest_clip(self, frames: int, width: int, height: int) -> int:
        """How many bytes a video of so many frames may have."""
        return largest_clip(frames, width, height, self.most)


Operation = Callable[[P, JobContext], Awaitable[Payload]]
"""Does the work of one kind of parameters. Cancelling it ends every process it started. Raises GpuDropError."""
