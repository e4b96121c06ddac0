"""What a worker process gives up before its first job, and how large a file its programs may write."""

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
"""CAP_CHOWN to CAP_FSETID: a listener that runs as root reads and writes its users' files, and so do its workers."""
_OPEN_FILES = 4096


def confine() -> None:
    """Before any thread is started: no program gains rights here, and no other reads this one's memory or environment.

    As root, only the rights over files are kept. Does what the system can do, and nothing elsewhere.
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
    """Effective, permitted and inheritable ones, 32 to a word; the first word holds those that are kept."""
    head = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0)
    words = (ctypes.c_uint32 * 6)()
    if libc.capget(head, words) != 0:
        return
    kept = [words[i] & _FILES_OF_OTHERS if i < 2 else 0 for i in range(6)]
    libc.capset(head, (ctypes.c_uint32 * 6)(*kept))


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
