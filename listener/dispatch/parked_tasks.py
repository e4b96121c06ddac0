"""Tasks that wait for an endpoint or a budget, in fair turns of their folders: one at a time asks for a slot."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from gpu_dispatch.fair_queue import FairQueue, Path
from listener.dispatch.request import JobRequest
from listener.fairness import share_of, share_path
from listener.signals import Cancellations

LONGEST_S = 60.0
"""The longest wait before a task asks again, in seconds: a budget may be raised, a job may end cheaper than estimated.
"""

WaitObserver = Callable[[JobRequest, Sequence[str]], None]
"""Called with why a task waits, in words, and with () when it goes on."""


class ParkedTasks:
    """Counts the tasks that wait, by share, and wakes each when its time has come or its run is to end."""

    def __init__(self, cancellations: Cancellations, observer: WaitObserver) -> None:
        self._cancellations = cancellations
        self._observer = observer
        self._counts = Counter[str]()
        self._turns = SlotTurns()

    @property
    def total(self) -> int:
        return self._counts.total()

    @property
    def by_share(self) -> Mapping[str, int]:
        return self._counts

    @property
    def wanted(self) -> frozenset[str]:
        """Endpoints that tasks wait for: what becomes free there is theirs."""
        return self._turns.wanted

    def check(self, request: JobRequest) -> None:
        """Raises the error that ends the run, if it is to end."""
        self._cancellations.check(request.run_id)

    def resumed(self, request: JobRequest) -> None:
        """Reports that the task goes on."""
        self._observer(request, ())

    @contextmanager
    def waiter(self, request: JobRequest) -> Generator[Waiter]:
        """Yields the waiter of a task that may come to wait inside; leaves its queue afterwards."""
        waiter = Waiter(self._turns, share_path(share_of(request.bucket, request.key)))
        try:
            yield waiter
        finally:
            waiter.leave()

    async def sleep(
        self, request: JobRequest, reasons: Sequence[str], for_s: float, until: asyncio.Event | None = None
    ) -> None:
        """Waits for `for_s`, at most LONGEST_S, or until `until` is set. Raises the error that ends the run."""
        self._observer(request, reasons)
        share = share_of(request.bucket, request.key)
        self._counts[share] += 1
        ended = asyncio.create_task(self._cancellations.wait(request.run_id))
        come = asyncio.create_task((until or asyncio.Event()).wait())
        try:
            timeout = min(max(for_s, 0.1), LONGEST_S)
            await asyncio.wait({ended, come}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            come.cancel()
            self._counts[share] -= 1
            if not self._counts[share]:
                del self._counts[share]
        self.check(request)


@dataclass(eq=False, slots=True)
class Turn:
    """A task's position among those that wait for the same endpoints."""

    of: frozenset[str]
    """The endpoints."""
    mine: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is next."""
    given_up: bool = False


class SlotTurns:
    """Lets one task at a time ask until it has a slot or stops waiting; then it is the next one's turn. Belongs to one
    event loop."""

    def __init__(self) -> None:
        self._queues: dict[frozenset[str], FairQueue[Turn]] = {}
        self._next: dict[frozenset[str], Turn] = {}

    @property
    def wanted(self) -> frozenset[str]:
        """The endpoints that tasks wait for."""
        return frozenset[str]().union(*self._next)

    def join(self, of: frozenset[str], path: Path) -> Turn:
        """Adds a task to those that wait for `of`; `path` says of which folder it is."""
        turn = Turn(of)
        if of in self._next:
            self._queues.setdefault(of, FairQueue()).push(path, turn)
        else:
            self._next[of] = turn
            turn.mine.set()
        return turn

    def leave(self, turn: Turn) -> None:
        """Ends a turn: the task has a slot, or stops waiting."""
        turn.given_up = True
        if self._next.get(turn.of) is not turn:
            return
        queue = self._queues.get(turn.of)
        while queue:
            following = queue.pop()
            if not following.given_up:
                self._next[turn.of] = following
                following.mine.set()
                return
        self._queues.pop(turn.of, None)
        del self._next[turn.of]


class Waiter:
    """A task that waits for one set of endpoints at a time, or for none. `path` says of which folder it is."""

    def __init__(self, turns: SlotTurns, path: Path) -> None:
        self._turns = turns
        self._path = path
        self._turn: Turn | None = None

    def turn(self, of: frozenset[str]) -> asyncio.Event:
        """Waits for `of`, and keeps a turn that it has there; the event is set once it is next."""
        if self._turn and self._turn.of != of:
            self.leave()
        self._turn = self._turn or self._turns.join(of, self._path)
        return self._turn.mine

    def leave(self) -> None:
        """Stops waiting."""
        if self._turn:
            self._turns.leave(self._turn)
        self._turn = None
