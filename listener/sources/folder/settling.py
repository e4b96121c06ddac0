"""When a file that is being written can be called finished, judged by what it looked like at which time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SETTLE_S = 0.4
"""How long a file must stay as it is."""

GROWING_SETTLE_S = 2.0
"""The same for a file that was seen to change, or is still empty: whoever writes it may pause."""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """Size in bytes and modification time in nanoseconds: what changes while a file is written."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class _Watched:
    stamp: FileStamp
    since: float
    settle_s: float


class FileStability:
    """Keys on their way. Times are seconds of one steady clock, given by the caller."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}

    def __len__(self) -> int:
        return len(self._watched)

    def seen(self, key: str, stamp: FileStamp, now: float) -> None:
        before = self._watched.get(key)
        if before is not None and before.stamp == stamp:
            return
        slow = before is not None or stamp.size == 0
        self._watched[key] = _Watched(stamp, now, GROWING_SETTLE_S if slow else SETTLE_S)

    def gone(self, key: str) -> None:
        self._watched.pop(key, None)

    def due(self, now: float) -> list[str]:
        """Keys to look at again: each as it is now goes into `finished`."""
        return [key for key, w in self._watched.items() if now - w.since >= w.settle_s]

    def finished(self, looks: Mapping[str, FileStamp | None], now: float) -> list[str]:
        """Of the due keys those that stayed as they were; these and the vanished (None) are forgotten."""
        done: list[str] = []
        for key, stamp in looks.items():
            watched = self._watched.get(key)
            if watched is None:
                continue
            if stamp is None:
                self.gone(key)
            elif stamp == watched.stamp:
                self.gone(key)
                done.append(key)
            else:
                self.seen(key, stamp, now)
        return done
