"""Bodies of posts, within a size and a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

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
