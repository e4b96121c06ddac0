"""Limits how many runs execute and start at once, and the memory that runs with very many files take.

A run counts as starting until it waits for something, or for HOT_S: if thousands started at once, each would wait for
all others at every step.

A burst of 3,000 runs begins no slower for it. A `concurrent_runs` below eight reserves no place for a folder's
neighbours.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gpu_dispatch.fair_queue import FairQueue, Path
from listener.fairness import Bound, root_folder

AT_ONCE = 6
"""Runs that may be starting at once."""
HOT_S = 5.0
"""Seconds after which a run does not count as starting any more."""


class Admission:
    """Counts the runs that execute here and those that are starting. `freed` is called when a slot may have become
    free; `now` is a monotonic clock in seconds."""

    def __init__(self, freed: Callable[[], None], *, now: Callable[[], float] = time.monotonic) -> None:
        self._freed = freed
        self._now = now
        self._told: dict[str, str] = {}
        self._starting: dict[str, float] = {}
        self.full = False
        """Whether no slot is free: a run without its inputs then leaves the engine and starts over later."""

    def is_full(self) -> bool:
        return self.full

    @property
    def room(self) -> int:
        """How many more runs may start now."""
        since = self._now() - HOT_S
        self._starting = {run_id: at for run_id, at in self._starting.items() if at > since}
        return AT_ONCE - len(self._starting)

    def bounds(self, limit: int, idle: Mapping[str, int]) -> tuple[Bound, ...]:
        """Returns what each share holds of `limit` slots, without its tasks in `idle`, and of the starting slots."""
        held = Counter(self._told.values())
        held.subtract(idle)
        starting = Counter(self._told[run_id] for run_id in self._starting if run_id in self._told)
        return Bound(held, limit), Bound(starting, AT_ONCE, reserved=1)

    def starting(self, run_id: str, share: str) -> None:
        self.executing(run_id, share)
        self._starting[run_id] = self._now()

    def executing(self, run_id: str, share: str) -> None:
        """Counts the run as executing until `ended`."""
        self._told[run_id] = share

    def started(self, run_id: str) -> None:
        """Ends the run's start: it waits for something now."""
        if self._starting.pop(run_id, None) is not None:
            self._freed()

    def ended(self, run_id: str) -> None:
        """Frees the run's slots."""
        self._told.pop(run_id, None)
        self._starting.pop(run_id, None)
        self._freed()


MANY = 1000
"""A run whose manifest names more files than this needs room."""
MOST = 60_000
"""Files of all such runs that execute at once. Each takes some 3 kB until its run has ended."""


class FileRoom:
    """Bounds the files of all runs with very many of them. Belongs to one event loop. A folder at a bucket's root gets
    half of the room: a run may hold its part for hours.

    A run that names 9,000 pictures takes 28 MB until its end; eighty at once took 2 GB, and take 154 MB over idle with
    this room: three of one folder at once, six in all. Lists are not packed between steps: the engine holds plan and
    requests too, and they are unpacked in the end. After a crash what was prepared is loaded before it can wait.
    """

    def __init__(self, most: int = MOST) -> None:
        self._of_one = most // 2
        self._all = _Room(most)
        self._folders: dict[Path, _Room] = {}

    def share_of(self, files: int) -> int:
        """Returns the room that a run with so many files needs: 0 up to MANY, at most what one folder gets."""
        return min(files, self._of_one) if files > MANY else 0

    def try_acquire(self, share: int, turn: Path) -> bool:
        """Takes `share` if there is room and no other run waits for it; returns whether it did. `turn` is the run's
        path in the fair queue."""
        folder = self._folder(turn)
        if folder.try_acquire(share):
            if self._all.try_acquire(share):
                return True
            folder.release(share)
        self._tidy(turn)
        return False

    async def acquire(self, share: int, turn: Path) -> None:
        """Waits for the run's turn and takes `share`; takes nothing when cancelled."""
        folder = self._folder(turn)
        try:
            await folder.acquire(share, turn)
            try:
                await self._all.acquire(share, turn)
            except BaseException:
                folder.release(share)
                raise
        finally:
            self._tidy(turn)

    def release(self, share: int, turn: Path) -> None:
        self._all.release(share)
        self._folder(turn).release(share)
        self._tidy(turn)

    def _folder(self, turn: Path) -> _Room:
        return self._folders.setdefault(root_folder(turn), _Room(self._of_one))

    def _tidy(self, turn: Path) -> None:
        name = root_folder(turn)
        if (folder := self._folders.get(name)) and folder.is_empty:
            del self._folders[name]


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

    def try_acquire(self, share: int) -> bool:
        if self._is_waited_for or self._taken + share > self._most:
            return False
        self._taken += share
        return True

    async def acquire(self, share: int, path: Path) -> None:
        if self.try_acquire(share):
            return
        waiting = _Waiting(share, asyncio.get_running_loop().create_future())
        self._others.push(path, waiting)
        self._give()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.done() and not waiting.turn.cancelled():
                self.release(share)
            else:
                self._give()
            raise

    def release(self, share: int) -> None:
        self._taken -= share
        self._give()

    def _give(self) -> None:
        """Gives room to the waiting runs in their order while there is enough; skips cancelled ones."""
        while self._is_waited_for:
            if self._next is None:
                self._next = self._others.pop()
            if not self._next.turn.cancelled():
                if self._taken + self._next.share > self._most:
                    return
                self._taken += self._next.share
                self._next.turn.set_result(None)
            self._next = None
