"""Drops a worker process's privileges before its first job, and limits its child processes' files and CPU time."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

from manifests.errors import GpuDropError, ResourceExhausted, TaskTimedOut

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CAPABILITIES_V3 = 0x20080522
_FILES_OF_OTHERS = sum(1 << number for number in range(5))
"""CAP_CHOWN to CAP_FSETID: under a listener that runs as root, workers read and write its users' files."""
_OPEN_FILES = 4096


def confine() -> None:
    """Drops privileges: programs gain no rights, and other processes cannot read this one's memory or environment.

    It must run before any thread starts. As root only the capabilities over files are kept. Where the system lacks a
    mechanism, it is skipped.
    """
    _set_limits()
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _drop_capabilities(libc)


def _set_limits() -> None:
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = _OPEN_FILES if most == resource.RLIM_INFINITY else min(_OPEN_FILES, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Keeps only the file capabilities: six words, the low 32 bits of each set, then the high ones."""
    head = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0)
    words = (ctypes.c_uint32 * 6)()
    if libc.capget(head, words) != 0:
        return
    kept = [words[i] & _FILES_OF_OTHERS if i < 2 else 0 for i in range(6)]
    libc.capset(head, (ctypes.c_uint32 * 6)(*kept))


_HARD_LIMIT_GRACE_S = 10
_INTERRUPTED = 255
"""ffmpeg's exit code after SIGXCPU, which it catches; it prints no error."""


def set_limits(pid: int, largest: int, timeout_s: float) -> None:
    """Limits file size and CPU time of the running process `pid` and of what it starts; Linux only.

    `largest` is in bytes of one file, 0 for no limit. The CPU time is `timeout_s` on every core: this ends a
    detached child, which a kill at the timeout does not reach.
    """
    if sys.platform != "linux":
        return
    import resource

    seconds = int(timeout_s * (os.cpu_count() or 1)) + 1
    limits = {resource.RLIMIT_CPU: (seconds, seconds + _HARD_LIMIT_GRACE_S)}
    if largest:
        limits[resource.RLIMIT_FSIZE] = (largest, largest)
    for kind, limit in limits.items():
        with suppress(ProcessLookupError, PermissionError):  # it has ended, or a lower one already
            resource.prlimit(pid, kind, limit)


def limit_error(code: int, largest: int, name: str, *, silent: bool) -> GpuDropError | None:
    """Returns the error of a process that ended with `code` at one of these limits; None for another cause.

    `silent` says that the process printed no error.
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
