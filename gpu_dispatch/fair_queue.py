"""A queue in which the owners of items take turns. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
Path = tuple[str, ...]

OWN = ""
"""Name of a node's own items, those of no folder below it."""


class FairQueue(Generic[T]):
    """A tree of queues: its branches take turns at every level, and the items of one path leave in order of arrival."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._parts: OrderedDict[str, FairQueue[T]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        yield from self._items
        for part in self._parts.values():
            yield from part

    def push(self, path: Path, item: T) -> None:
        node = self
        for name in (*path, OWN):
            node._count += 1
            node = node._parts.setdefault(name, FairQueue())
        node._count += 1
        node._items.append(item)

    def pop(self) -> T:
        """Removes the next item and returns it. Raises IndexError when there is none."""
        if self._items:
            self._count -= 1
            return self._items.popleft()
        if not self._parts:
            raise IndexError("the queue is empty")
        name, part = next(iter(self._parts.items()))
        item = part.pop()
        self._count -= 1
        self._parts.move_to_end(name)
        if not part:
            del self._parts[name]
        return item

    def within(self, path: Path) -> int:
        """Returns the number of items below `path`."""
        node = self
        for name in path:
            if name not in node._parts:
                return 0
            node = node._parts[name]
        return node._count
