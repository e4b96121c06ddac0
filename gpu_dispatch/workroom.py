"""The folder of a backend's children, and the removal of those whose owner was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "gpudrop-work-"
_LOCK = "lock"


class ScratchFolder:
    """A folder below `parent` that its owner holds locked for as long as it lives."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        self._lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _sweep(parent: Path) -> None:
    """Removes the rooms nobody holds. One without a lock is being made at this moment."""
    for room in parent.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(room / _LOCK, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(room, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)
