"""What a program that reads strangers' media may take, held by the kernel: the size of a file, processor time."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from manifests.errors import GpuDropError, ResourceExhausted, TaskTimedOut

_LAST_WORDS_S = 10
_INTERRUPTED = 255
"""ffmpeg catches the signal and ends by itself, without a word of error."""


def impose(pid: int, largest: int, timeout_s: float) -> None:
    """On the process `pid` and all it starts, as soon as it runs, where the system has such limits.

    `largest`: bytes of a file, 0 for no limit. Processor time is what all cores give in `timeout_s`: whoever kills the
    process then does not reach one that it has started and let go.
    """
    if sys.platform != "linux":
        return
    import resource

    seconds = int(timeout_s * (os.cpu_count() or 1)) + 1
    limits = {resource.RLIMIT_CPU: (seconds, seconds + _LAST_WORDS_S)}
    if largest:
        limits[resource.RLIMIT_FSIZE] = (largest, largest)
    for kind, limit in limits.items():
        with suppress(ProcessLookupError, PermissionError):  # it has ended, or a lower one already
            resource.prlimit(pid, kind, limit)


def exceeded(code: int, largest: int, name: str, *, silent: bool) -> GpuDropError | None:
    """The error of a process that ended with `code` at one of these limits; None when it ended for another reason.

    `silent`: it named no error.
    """
    if code == -signal.SIGXCPU or (code == _INTERRUPTED and silent):
        return TaskTimedOut(
            f"The work on {name} took all the processor time it may have.",
            hint="Cut the media into shorter pieces, or raise the time limit.",
            where=name,
        )
    if not largest or code != -signal.SIGXFSZ:
        return None
    return ResourceExhausted(
        f"Out of {name} would come a file of more than {largest / 2**20:.0f} MiB, too much for so small an input.",
        hint="Cut it into shorter pieces, or raise task_max_output in config.yaml where it is set.",
        where=name,
    )
