"""One connection to MinIO's event stream: its bytes, their lines, or the error that ended it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from gpu_dispatch.net.bodies import read_available
from listener import clock_skew
from listener.sources.minio import errors
from manifests.errors import GpuDropError, ServerMisbehaves, StoreUnavailable


class LineSplitter:
    """Splits chunks into whole lines, without their ends. Copies each byte once, even in very long lines.

    A line over `max_bytes` is dropped and counted in `dropped`; the next line is read as usual.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._parts: list[bytes] = []
        self._length = 0
        self._skipping = False
        self.dropped = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        *ends, rest = chunk.split(b"\n")
        lines: list[bytes] = []
        for end in ends:
            self._add(end)
            if self._skipping:
                self.dropped += 1
            else:
                lines.append(b"".join(self._parts))
            self._clear()
            self._skipping = False
        self._add(rest)
        return lines

    def _add(self, part: bytes) -> None:
        if self._skipping or not part:
            return
        self._length += len(part)
        if self._length > self._max:
            self._skipping = True
            self._clear()
        else:
            self._parts.append(part)

    def _clear(self) -> None:
        self._parts = []
        self._length = 0


_CONNECT_S = 5.0
_BUFFER_BYTES = 2**20
_MAX_REFUSAL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ListenRequest:
    """A signed request for events."""

    endpoint: str
    bucket: str
    """Empty: all buckets."""
    url: str
    """Percent-encoded as it was signed."""
    headers: Mapping[str, str]
    silence_s: float
    """Longest wait in seconds for the next byte; for the first one it starts with the request."""


async def stream_chunks(session: aiohttp.ClientSession, request: ListenRequest) -> AsyncGenerator[bytes, None]:
    """Yields what the stream sends, keep-alives included. Always ends by raising the error that ended the stream.

    StoreUnavailable passes by itself; ServerMisbehaves, StoreDenied and ConfigError need a person to act.
    """
    try:
        first_by = asyncio.get_running_loop().time() + request.silence_s
        async with await _open(session, request, first_by) as response:
            await _check(response, request, first_by)
            first = await _next(response, first_by, _silence(request))
            _check_first(first, request)
            yield first
            silent = _broken(request, f"nothing came for {request.silence_s:.0f} s")
            while chunk := await _next(response, asyncio.get_running_loop().time() + request.silence_s, silent):
                yield chunk
    except aiohttp.ClientSSLError as e:
        raise errors.no_tls(bucket=request.bucket, endpoint=request.endpoint, said=str(e)) from e
    except aiohttp.ClientConnectorError as e:
        why = e.strerror or str(e)
        raise errors.stream_unreachable(bucket=request.bucket, endpoint=request.endpoint, why=why) from e
    except (aiohttp.ClientError, OSError) as e:
        raise _broken(request, repr(e)) from e
    raise _broken(request, "the server closed it")


async def _open(session: aiohttp.ClientSession, request: ListenRequest, until: float) -> aiohttp.ClientResponse:
    """Returns the response once its headers are there; MinIO sends them only with the first byte of the stream.

    `until` is in the loop's time.
    """
    try:
        async with asyncio.timeout_at(until):
            return await session.get(
                URL(request.url, encoded=True),
                headers=request.headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(_CONNECT_S, request.silence_s / 2)),
                read_bufsize=_BUFFER_BYTES,
            )
    except aiohttp.ConnectionTimeoutError as e:
        raise _broken(request, "no connection") from e
    except TimeoutError as e:
        raise _silence(request) from e


async def _check(response: aiohttp.ClientResponse, request: ListenRequest, until: float) -> None:
    if response.status != 200:
        try:
            async with asyncio.timeout_at(until):
                body = await read_available(response.content, _MAX_REFUSAL_BYTES)
        except TimeoutError:
            body = b""
        ahead_s = clock_skew.between_headers(request.headers.get("x-amz-date"), response.headers.get("Date"))
        raise errors.listen_refused(
            response.status, body, bucket=request.bucket, endpoint=request.endpoint, ahead_s=ahead_s
        )
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise errors.stream_compressed(bucket=request.bucket, endpoint=request.endpoint, encoding=encoding)


def _check_first(chunk: bytes, request: ListenRequest) -> None:
    """Raises NoStream for XML: a server without this stream answers the request as a listing."""
    if chunk.lstrip().startswith(b"<"):
        raise errors.no_stream(bucket=request.bucket, endpoint=request.endpoint, said="it answered with a document")


async def _next(response: aiohttp.ClientResponse, until: float, too_late: GpuDropError) -> bytes:
    """Returns everything that has arrived, as soon as there is any; b"" at the end. Raises `too_late` at `until`."""
    try:
        async with asyncio.timeout_at(until):
            return await response.content.readany()
    except TimeoutError as e:
        raise too_late from e


def _silence(request: ListenRequest) -> ServerMisbehaves:
    return errors.stream_silent(bucket=request.bucket, endpoint=request.endpoint, waited_s=request.silence_s)


def _broken(request: ListenRequest, how: str) -> StoreUnavailable:
    return errors.stream_broken(bucket=request.bucket, how=how)
