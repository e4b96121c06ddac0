"""The context that a worker's operation gets besides its parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gpu_dispatch.output_sizes import largest_clip, largest_from, largest_looped
from gpu_dispatch.task import Payload, Progress

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class JobContext:
    """One job's private folder, progress callback and output limit."""

    folder: Path
    """Holds the inputs under their names, and takes the outputs."""
    report: Callable[[Progress], None]
    """Callable from any thread at any rate; never blocks and never raises."""
    max_output_bytes: int = 0
    """Bytes that any output may have; 0: what its inputs allow."""

    def path(self, name: str) -> Path:
        """Returns the file `name` in the job's folder. A name with a folder in it is a defect of the planner."""
        if Path(name).name != name:
            raise ValueError(f"{name!r} is no plain file name")
        return self.folder / name

    def max_bytes(self, *inputs: str) -> int:
        """Returns how many bytes an output of these inputs may have."""
        return largest_from(self._size(*inputs), self.max_output_bytes)

    def max_looped_bytes(self, video: str, audio: str) -> int:
        """Returns how many bytes `video` may have when it is repeated under `audio`."""
        return largest_looped(self._size(video, audio), self._size(audio), self.max_output_bytes)

    def largest_clip(self, frames: int, width: int, height: int) -> int:
        """Returns how many bytes a video of `frames` frames may have."""
        return largest_clip(frames, width, height, self.max_output_bytes)

    def _size(self, *names: str) -> int:
        return sum(self.path(name).stat().st_size for name in names)


Operation = Callable[[P, JobContext], Awaitable[Payload]]
"""Executes one kind of parameters. Cancelling it ends every process it started. Raises GpuDropError."""
