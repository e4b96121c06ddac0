"""Tasks that wait for a place take turns by their folders, and one at a time asks whether there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass, field

from gpu_dispatch.fair_queue import FairQueue, Path


@dataclass(eq=False, slots=True)
class Turn:
    """A task's place among those that wait for the same endpoints. `mine` is set once it is next."""

    of: Hashable
    mine: asyncio.Event = field(default_factory=asyncio.Event)
    given_up: bool = False


class PlaceTurns:
    """Whoever is next asks until it has a place or waits no longer; then it is the next one's turn.

    Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._queues: dict[Hashable, FairQueue[Turn]] = {}
        self._next: dict[Hashable, Turn] = {}

    @contextmanager
    def waiter(self, path: Path) -> Generator[Waiter]:
        """A task that may come to wait inside; afterwards it has a place, or waits no longer."""
        waiter = Waiter(self, path)
        try:
            yield waiter
        finally:
            waiter.leave()

    def join(self, of: Hashable, path: Path) -> Turn:
        """The last among those that wait for `of`; `path` says of which folder it is."""
        turn = Turn(of)
        if of in self._next:
            self._queues.setdefault(of, FairQueue()).push(path, turn)
        else:
            self._next[of] = turn
            turn.mine.set()
        return turn

    def leave(self, turn: Turn) -> None:
        """It has a place, or waits no longer."""
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
    """A task that waits for one set of endpoints at a time, or for none of them. `path` says of which folder it is."""

    def __init__(self, turns: PlaceTurns, path: Path) -> None:
        self._turns = turns
        self._path = path
        self._turn: Turn | None = None

    def turn(self, of: Hashable) -> asyncio.Event:
        """It waits for `of`, where it keeps the turn that it has there; set once it is next."""
        if self._turn and self._turn.of != of:
            self.leave()
        self._turn = self._turn or self._turns.join(of, self._path)
        return self._turn.mine

    def leave(self) -> None:
        """It waits for none of them."""
        if self._turn:
            self._turns.leave(self._turn)
        self._turn = None
