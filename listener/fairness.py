"""Fair shares among folders: thousands of files in one folder do not delay the files of another.

A share is named by the folder of a drop: `BUCKET/FOLDER`, down to `DEPTH` folders. Shares are a tree: buckets take
turns, the folders of a bucket take turns among themselves, and so on, so that subfolders give nobody more.

Where work holds a place for long, some places are kept free of the folder that would take them all.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gpu_dispatch.fair_queue import OWN, FairQueue, Path
from manifests.names import drop_folder

DEPTH = 3
"""Number of folders of a key that name its share."""
KEPT_FREE = 8
"""A folder may hold all places but one in this many; the others stay free for its neighbours."""

_MOST_REMEMBERED = 10_000


def share_of(bucket: str, key: str) -> str:
    """Returns the name of a drop's share."""
    return "/".join((bucket, *drop_folder(key).split("/")[:-1][:DEPTH]))


def turn_of(bucket: str, key: str) -> Path:
    """Returns the path at which a drop's run waits for its turn: its share's path, then its key.

    Drops directly in a folder are one part of it, beside its subfolders.
    """
    return (*share_path(share_of(bucket, key)), OWN, key)


def root_folder(path: Path) -> Path:
    """Returns the path of the folder at a bucket's root that `path`, of a share or a turn, leads to; the drops directly
    at the root are one folder."""
    return (*path, OWN)[:2]


def share_path(share: str) -> Path:
    """Returns the parts of a share's name, the bucket first."""
    return tuple(share.split("/"))


@dataclass(frozen=True, slots=True)
class Bound:
    """A number of places, and how many of them one folder may hold."""

    held: Mapping[str, int]
    """Places held, by share."""
    most: int
    """Places in all."""
    reserved: int = 0
    """Places left to others at each depth, where that is more than an eighth."""

    def limit_at(self, depth: int) -> int:
        """Returns how many places a folder at `depth` may hold: 0 is a bucket, which gets all, 1 a folder in it."""
        return self.most - depth * max(self.reserved, self.most // KEPT_FREE)


class Turns:
    """The order of last turns: among shares that hold equally much, the one whose turn is longest ago is next."""

    def __init__(self) -> None:
        self._last: dict[Path, int] = {}
        self._count = 0

    def of(self, path: Path) -> int:
        return self._last.get(path, 0)

    def taken(self, path: Path) -> None:
        if len(self._last) >= _MOST_REMEMBERED:
            self._last.clear()
        self._count += 1
        self._last[path] = self._count


@dataclass(slots=True)
class _Node:
    path: Path = ()
    waiting: int = 0
    held: list[int] = field(default_factory=list[int])
    parts: dict[str, _Node] = field(default_factory=dict[str, "_Node"])
    next: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])

    def below(self, name: str, bounds: int) -> _Node:
        return self.parts.setdefault(name, _Node((*self.path, name), held=[0] * bounds))


def pick(waiting: Mapping[str, int], bounds: Sequence[Bound], room: int, turns: Turns) -> Counter[str]:
    """Returns how many of `waiting`, by share, get one of `room` places.

    At each level the next place goes to the part that holds the fewest by the first of `bounds`; no bound is exceeded.
    """
    root = _tree(waiting, bounds)
    _prepare(root, turns)
    picked = Counter[str]()
    for _ in range(room):
        path = _take(root, bounds, turns)
        if path is None:
            break
        picked["/".join(path)] += 1
    return picked


def _tree(waiting: Mapping[str, int], bounds: Sequence[Bound]) -> _Node:
    root = _Node(held=[0] * len(bounds))
    for share, count in waiting.items():
        node = root
        for name in (*share_path(share), OWN):
            node = node.below(name, len(bounds))
            node.waiting += count
    for i, bound in enumerate(bounds):
        for share, count in bound.held.items():
            node: _Node | None = root
            for name in (*share_path(share), OWN):
                if (node := node.parts.get(name)) is None:
                    break
                node.held[i] += count
    return root


def _prepare(node: _Node, turns: Turns) -> None:
    node.next = [(_held(part), turns.of(part.path), name) for name, part in node.parts.items()]
    heapq.heapify(node.next)
    for part in node.parts.values():
        _prepare(part, turns)


def _take(node: _Node, bounds: Sequence[Bound], turns: Turns) -> Path | None:
    """Returns the path of the share below `node` that gets the next place; None where none may have it."""
    if not node.parts:
        if not node.waiting:
            return None
        node.waiting -= 1
        return node.path[:-1]
    while node.next:
        _, _, name = heapq.heappop(node.next)
        part = node.parts[name]
        if not _fits(part, bounds) or (path := _take(part, bounds, turns)) is None:
            continue
        part.held = [held + 1 for held in part.held]
        turns.taken(part.path)
        heapq.heappush(node.next, (_held(part), turns.of(part.path), name))
        return path
    return None


def _fits(node: _Node, bounds: Sequence[Bound]) -> bool:
    depth = len(node.path) - 1
    if depth > 1 and node.path[-1] == OWN:
        # Drops directly in a folder are bounded with the folder.
        depth -= 1
    return all(held < bound.limit_at(depth) for held, bound in zip(node.held, bounds, strict=True))


def _held(node: _Node) -> int:
    return node.held[0] if node.held else 0


class FairGate:
    """A semaphore of `limit` places that go to folders in turn. Belongs to one event loop."""

    def __init__(self, limit: int, *, of_one: int | None = None) -> None:
        """`of_one` is the most places that one folder at a bucket's root may hold; None: all of them."""
        self._free = limit
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()
        self._of_one = of_one
        self._folders: dict[Path, _Folder] = {}

    @asynccontextmanager
    async def turn(self, path: Path) -> AsyncGenerator[None]:
        """Holds one place; `path` is where the caller waits for its turn."""
        if self._of_one is None:
            async with self._place(path):
                yield
            return
        name = root_folder(path)
        folder = self._folders.setdefault(name, _Folder(FairGate(self._of_one)))
        folder.users += 1
        try:
            async with folder.gate.turn(path), self._place(path):
                yield
        finally:
            folder.users -= 1
            if not folder.users:
                del self._folders[name]

    @asynccontextmanager
    async def _place(self, path: Path) -> AsyncGenerator[None]:
        if self._free > 0:
            self._free -= 1
        else:
            passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.push(path, passed)
            try:
                await passed
            except asyncio.CancelledError:
                if passed.done() and not passed.cancelled():
                    self._leave()
                raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        """Gives the place to the next that waits, so that no newcomer takes it."""
        while self._waiting:
            passed = self._waiting.pop()
            if not passed.done():
                passed.set_result(None)
                return
        self._free += 1


@dataclass(slots=True)
class _Folder:
    """The limit of one folder, in front of the limit of all."""

    gate: FairGate
    users: int = 0
    """Callers that hold a place or wait for one."""
