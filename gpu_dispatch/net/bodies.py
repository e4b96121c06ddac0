"""Reads bodies of requests and answers within a limit of bytes.

The stream's own `read(n)` misses a word in the second packet: four of five readers had that fault.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import aiohttp

_COMPRESSED = frozenset({"gzip", "x-gzip", "compress", "x-compress", "deflate", "br", "zstd"})


class BodyTooLong(Exception):
    """A body exceeds the limit; the caller turns this into an error with a meaning."""


async def pieces(body: aiohttp.StreamReader, max_bytes: int) -> AsyncIterator[bytes]:
    """Yields the body as it arrives. Raises BodyTooLong once it has more than `max_bytes`."""
    length = 0
    async for piece in body.iter_any():
        length += len(piece)
        if length > max_bytes:
            raise BodyTooLong
        yield piece


async def read_whole(body: aiohttp.StreamReader, max_bytes: int) -> bytes:
    """Reads the whole body. Raises BodyTooLong when it has more than `max_bytes`."""
    whole = bytearray()
    async for piece in pieces(body, max_bytes):
        whole += piece
    return bytes(whole)


async def read_beginning(body: aiohttp.StreamReader, max_bytes: int) -> bytes:
    """Reads the first `max_bytes` of the body, or all of it; the stream's own `read` returns only what has arrived."""
    beginning = bytearray()
    while len(beginning) < max_bytes and (piece := await body.read(max_bytes - len(beginning))):
        beginning += piece
    return bytes(beginning)


async def read_available(body: aiohttp.StreamReader, max_bytes: int) -> bytes:
    """Reads like `read_beginning`, but returns what arrived of a body that breaks off: the status stays valid."""
    said = bytearray()
    try:
        while len(said) < max_bytes and (piece := await body.read(max_bytes - len(said))):
            said += piece
    except (aiohttp.ClientError, TimeoutError, OSError):
        pass
    return bytes(said)


def compression_of(headers: Mapping[str, str]) -> str:
    """Returns the coding that a body is compressed with; "" for none.

    Other codings that stores name, such as aws-chunked, describe the upload, not the download.
    """
    given = (word.strip().lower() for word in headers.get("Content-Encoding", "").split(","))
    return next((word for word in given if word in _COMPRESSED), "")
