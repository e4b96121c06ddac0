"""Tasks that wait for a place take turns by their folders, and one at a time asks whether there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
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
