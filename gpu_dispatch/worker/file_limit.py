"""How large a file a program that reads strangers' media may write; the kernel keeps it to that."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

from manifests.errors import GpuDropError, ResourceExhausted


def impose(pid: int, largest: int) -> None:
    """On the process `pid`, as soon as it runs, where the system has such a limit; 0 bytes are none."""
    if sys.platform != "linux" or not largest:
        return
    import resource

    with suppress(ProcessLookupError, PermissionError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, largest))


def exceeded(code: int, largest: int, name: str) -> GpuDropError | None:
    """The error of a process that ended with `code` at this limit; None when it ended for another reason."""
    if not largest or code != -signal.SIGXFSZ:
        return None
    return ResourceExhausted(
        f"Out of {name} would come a file of more than {largest / 2**20:.0f} MiB, too much for so small an input.",
        hint="Cut it into shorter pieces.",
        where=name,
    )
