"""Bodies of answers and requests, read within a bound: what a peer sends is never longer than was allowed for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import aiohttp

_COMPRESSED = frozenset({"gzip", "x-gzip", "compress", "x-compress", "deflate", "br", "zstd"})


class BodyTooLong(Exception):
    """A body is longer than the bytes that are read. Whoever reads says what that means."""


async def pieces(body: aiohttp.StreamReader, max_bytes: int) -> AsyncIterator[bytes]:
    """The body as it comes. Raises BodyTooLong once it has more than `max_bytes`."""
    length = 0
    async for piece in body.iter_any():
        length += len(piece)
        if length > max_bytes:
            raise BodyTooLong
        yield piece


async def read_whole(body: aiohttp.StreamReader, max_bytes: int) -> bytes:
    """Raises BodyTooLong when the body has more than `max_bytes`."""
    whole = bytearray()
    async for piece in pieces(body, max_bytes):
        whole += piece
    return bytes(whole)


async def read_beginning(body: aiohttp.StreamReader, max_bytes: int) -> bytes:
    """The first `max_bytes` of the body, or all of it. The stream's own `read` gives what has arrived so far."""
    beginning = bytearray()
    while len(beginning) < max_bytes and (piece := await body.read(max_bytes - len(beginning))):
        beginning += piece
    return bytes(beginning)


async def read_said(body: aiohttp.StreamReader, max_bytes: int) -> bytes:
    """As `read_beginning`, as far as it came: a body that breaks off does not unsay the status."""
    said = bytearray()
    try:
        while len(said) < max_bytes and (piece := await body.read(max_bytes - len(said))):
            said += piece
    except (aiohttp.ClientError, TimeoutError, OSError):
        pass
    return bytes(said)


def compression_of(headers: Mapping[str, str]) -> str:
    """The coding that a body is compressed with; "" for none.

    Other codings that stores name, such as aws-chunked, say how a file came to them, not how it leaves.
    """
    given = (word.strip().lower() for word in headers.get("Content-Encoding", "").split(","))
    return next((word for word in given if word in _COMPRESSED), "")
