"""Room in memory for runs that name very many files: their folders take turns, everybody else goes on beside them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gpu_dispatch.fair_queue import FairQueue, Path

MANY = 1000
"""Files of one manifest from which on a run needs room."""
MOST = 60_000
"""Files of all such runs that are told at once. Each takes some 3 kB until its run has ended."""


class FileRoom:
    """Belongs to one event loop. A folder at a bucket's root gets half of it: a run may hold its part for hours."""

    def __init__(self, most: int = MOST) -> None:
        self._of_one = most // 2
        self._all = _Room(most)
        self._folders: dict[Path, _Room] = {}

    def share_of(self, files: int) -> int:
        """What a run of so many files needs: 0 for most, never more than there is for one folder."""
        return min(files, self._of_one) if files > MANY else 0

    def try_take(self, share: int, turn: Path) -> bool:
        """Whether there was room, and nobody waited for it before. `turn` is whose turn it would be."""
        folder = self._folder(turn)
        if folder.try_take(share):
            if self._all.try_take(share):
                return True
            folder.free(share)
        self._tidy(turn)
        return False

    async def take(self, share: int, turn: Path) -> None:
        """Waits for its turn; cancelled, it has taken nothing."""
        folder = self._folder(turn)
        try:
            await folder.take(share, turn)
            try:
                await self._all.take(share, turn)
            except BaseException:
                folder.free(share)
                raise
        finally:
            self._tidy(turn)

    def free(self, share: int, turn: Path) -> None:
        self._all.free(share)
        self._folder(turn).free(share)
        self._tidy(turn)

    def _folder(self, turn: Path) -> _Room:
        return self._folders.setdefault(turn[:2], _Room(self._of_one))

    def _tidy(self, turn: Path) -> None:
        folder = self._folders.get(turn[:2])
        if folder and folder.is_empty:
            del self._folders[turn[:2]]


@dataclass(frozen=True, slots=True)
class _Waiting:
    share: int
    turn: asyncio.Future[None]


class _Room:
    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._next: _Waiting | None = None
        self._others: FairQueue[_Waiting] = FairQueue()

    @property
    def is_empty(self) -> bool:
        return not self._taken and not self._is_waited_for

    @property
    def _is_waited_for(self) -> bool:
        return self._next is not None or bool(self._others)

    def try_take(self, share: int) -> bool:
        if self._is_waited_for or self._taken + share > self._most:
            return False
        self._taken += share
        return True

    async def take(self, share: int, path: Path) -> None:
        if self.try_take(share):
            return
        waiting = _Waiting(share, asyncio.get_running_loop().create_future())
        self._others.push(path, waiting)
        self._give()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.done() and not waiting.turn.cancelled():
                self.free(share)
            else:
                self._give()
            raise

    def free(self, share: int) -> None:
        self._taken -= share
        self._give()

    def _give(self) -> None:
        """To whoever is next as long as there is enough; those who no longer wait are passed."""
        while self._is_waited_for:
            if self._next is None:
                self._next = self._others.pop()
            if not self._next.turn.cancelled():
                if self._taken + self._next.share > self._most:
                    return
                self._taken += self._next.share
                self._next.turn.set_result(None)
            self._next = None
