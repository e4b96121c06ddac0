"""How the C library keeps memory: large blocks apart, so that what is free goes back to the system at once."""

from __future__ import annotations

import ctypes
import sys

LARGE = 2**20
"""Bytes of a block that lies in memory of its own: an answer, an output."""

_M_MMAP_THRESHOLD = -3


def keep_large_blocks_apart() -> bool:
    """Whether the C library lets itself be told; where it does not, it may do so by itself.

    After the first large block glibc raises its own limit, up to 32 MB. Later ones then lie among smaller blocks, and
    stay with the process for as long as one above them is in use.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_MMAP_THRESHOLD, LARGE) == 1
