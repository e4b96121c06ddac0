"""Bodies of posts within a size and a time, and the room for those whose sender nothing has proven yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from gpu_dispatch.net.bodies import BodyTooLong, pieces


class BodyRefused(Exception):
    """A post that is answered with `status`; `reason` names the cause in the counts."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.headers = headers or {}


async def read_body(
    request: web.BaseRequest, *, max_bytes: int, timeout_s: float, grown: Callable[[int], None] = lambda _: None
) -> bytes:
    """The whole body, as it was sent. Raises Refused; of a body that is too long no more than `max_bytes` is kept.

    `grown` is told the bytes of each piece.
    """
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        # A few kilobytes can inflate to gigabytes, and no store compresses what it posts.
        raise BodyRefused(415, "compressed", {"Accept-Encoding": "identity"})
    if (request.content_length or 0) > max_bytes:
        raise BodyRefused(413, "too_large")
    await _continue(request)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for piece in pieces(request.content, max_bytes):
                body += piece
                grown(len(piece))
    except BodyTooLong as e:
        raise BodyRefused(413, "too_large") from e
    except TimeoutError as e:
        raise BodyRefused(408, "too_slow") from e
    except web.RequestPayloadError as e:
        raise BodyRefused(400, "not_http") from e
    return bytes(body)


async def _continue(request: web.BaseRequest) -> None:
    """Some clients hold the body back until they are told that it is wanted."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


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
