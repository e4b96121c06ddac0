"""Reads bodies of posts within a size and a time, and limits those whose sender is not authenticated yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from gpu_dispatch.net.bodies import BodyTooLong, pieces


class BodyRefused(Exception):
    """Ends a post with an HTTP `status` and `headers`; `reason` names the cause in the counts."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.headers = headers or {}


async def read_body(
    request: web.BaseRequest, *, max_bytes: int, timeout_s: float, on_growth: Callable[[int], None] = lambda _: None
) -> bytes:
    """Reads the whole body as it was sent. Raises BodyRefused; keeps no more than `max_bytes` of one that is too long.

    `on_growth` is called with the size of each piece.
    """
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        # A few kilobytes can inflate to gigabytes, and no store compresses its posts.
        raise BodyRefused(415, "compressed", {"Accept-Encoding": "identity"})
    if (request.content_length or 0) > max_bytes:
        raise BodyRefused(413, "too_large")
    await _continue(request)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for piece in pieces(request.content, max_bytes):
                body += piece
                on_growth(len(piece))
    except BodyTooLong as e:
        raise BodyRefused(413, "too_large") from e
    except TimeoutError as e:
        raise BodyRefused(408, "too_slow") from e
    except web.RequestPayloadError as e:
        raise BodyRefused(400, "not_http") from e
    return bytes(body)


async def _continue(request: web.BaseRequest) -> None:
    """Answers "100 Continue" to clients that hold the body back until then."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


LATER = {"Retry-After": "5"}


@dataclass(eq=False, slots=True)
class UnauthenticatedBody:
    """One body that is being read and verified."""

    scope: asyncio.Timeout
    size: int = 0
    """Bytes so far."""
    evicted: bool = False

    def evict(self) -> None:
        if self.scope.expired():
            return
        self.evicted = True
        self.scope.reschedule(asyncio.get_running_loop().time())


class UnauthenticatedBodies:
    """Holds at most `max_bodies` bodies of `max_bytes` in total, each for `timeout_s` seconds.

    Beyond that the oldest is evicted: a store's body arrives in milliseconds, so strangers who hold bodies back do not
    keep it out.
    """

    def __init__(self, *, max_bodies: int, max_bytes: int, timeout_s: float) -> None:
        self._max_bodies = max_bodies
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._bodies: dict[UnauthenticatedBody, None] = {}

    @property
    def size(self) -> int:
        """Bytes in total."""
        return sum(body.size for body in self._bodies)

    @asynccontextmanager
    async def admit(self) -> AsyncGenerator[UnauthenticatedBody]:
        """Counts a body while it is read and verified. Raises BodyRefused when it takes too long or is evicted."""
        body = None
        try:
            async with asyncio.timeout(self._timeout_s) as scope:
                body = UnauthenticatedBody(scope)
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

    def grow(self, body: UnauthenticatedBody, size: int) -> None:
        """Adds `size` bytes to a body, and evicts the oldest while there are too many bytes."""
        body.size += size
        while self.size > self._max_bytes and self._bodies:
            self._evict_oldest()

    def _evict_oldest(self) -> None:
        oldest = next(iter(self._bodies))
        del self._bodies[oldest]
        oldest.evict()
