"""Bodies that are read before anything proves who sends them: anybody can claim a signature, so all of them share a
bound on memory, on number and on time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from listener.sources.webhook.bodies import BodyRefused

LATER = {"Retry-After": "5"}


@dataclass(eq=False, slots=True)
class UnprovenBody:
    """One body. `size` in bytes, so far."""

    scope: asyncio.Timeout
    size: int = 0
    evicted: bool = False

    def evict(self) -> None:
        if self.scope.expired():
            return
        self.evicted = True
        self.scope.reschedule(asyncio.get_running_loop().time())


class UnprovenBodies:
    """At most `max_bodies` at a time, of `max_bytes` together, each for `timeout_s`.

    Beyond, the one that has taken longest gives way: what a store sends is there in milliseconds, and a stranger who
    holds bodies back does not keep it out.
    """

    def __init__(self, *, max_bodies: int, max_bytes: int, timeout_s: float) -> None:
        self._max_bodies = max_bodies
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._bodies: dict[UnprovenBody, None] = {}

    @property
    def size(self) -> int:
        """Bytes, all together."""
        return sum(body.size for body in self._bodies)

    @asynccontextmanager
    async def one_more(self) -> AsyncGenerator[UnprovenBody]:
        """Counts a body while it is read and proven. Raises Refused when it takes too long or gives way to others."""
        body = None
        try:
            async with asyncio.timeout(self._timeout_s) as scope:
                body = UnprovenBody(scope)
                self._bodies[body] = None
                if len(self._bodies) > self._max_bodies:
                    self._evict_oldest()
                yield body
        except TimeoutError as e:
            if body and body.evicted:
                raise BodyRefused(503, "too_many_unproven", LATER) from e
            raise BodyRefused(408, "too_slow") from e
        finally:
            if body:
                self._bodies.pop(body, None)

    def grow(self, body: UnprovenBody, size: int) -> None:
        """More of it has come."""
        body.size += size
        while self.size > self._max_bytes and self._bodies:
            self._evict_oldest()

    def _evict_oldest(self) -> None:
        oldest = next(iter(self._bodies))
        del self._bodies[oldest]
        oldest.evict()
