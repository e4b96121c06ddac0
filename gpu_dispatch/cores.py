"""The cores of this machine, for the listener and the worker."""

from __future__ import annotations

import os
import sys


def usable_cores() -> int:
    """Returns the number of cores this process may run on; a container's share is often less than the machine's."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
