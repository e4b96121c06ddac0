"""Memory that is free again, given back to the system.

glibc keeps what was freed below anything that is still in use: some hundred megabytes after a transcript of some hours.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from resource import getpagesize

EVERY_S = 30.0

GROWN = 16 * 2**20
"""Bytes by which the process has to have grown since the last time for it to be worth while."""

_STATM = Path("/proc/self/statm")


def trimmer() -> Callable[[], object] | None:
    """What gives freed memory back; None where the C library does so by itself, or cannot."""
    if sys.platform != "linux":
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return None if trim is None else lambda: trim(0)


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(_STATM.read_text().split()[1]) * getpagesize()


async def give_memory_back(trim: Callable[[], object], every_s: float = EVERY_S, grown: int = GROWN) -> None:
    """Calls `trim` where this process has grown. Until cancelled."""
    before = resident()
    while True:
        await asyncio.sleep(every_s)
        now = resident()
        if now - before > grown:
            await asyncio.to_thread(trim)
            before = resident()
        else:
            before = min(before, now)
