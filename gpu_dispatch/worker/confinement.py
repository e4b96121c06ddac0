"""What a worker process gives up before its first job: whoever gets to run code in it finds little to do with that."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

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
