"""Transfers files from and to http(s) addresses: bounded, retried, every hop checked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from gpu_dispatch.net.bodies import read_beginning
from gpu_dispatch.net.failures import BROKEN, connection_failure
from gpu_dispatch.net.guarded import Body, GuardedClient, Method, web_url
from gpu_dispatch.net.retries import Retries
from gpu_dispatch.transfer.bodies import Moved, file_chunks, read_all, save
from gpu_dispatch.transfer.limits import TransferBudget, TransferLimits
from gpu_dispatch.transfer.responses import (
    check_able,
    check_granted,
    check_plain,
    check_received,
    check_stored,
    is_passing,
)
from manifests.errors import StoreDenied, TransferFailed
from manifests.text import without_secrets_in


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """The answer to a short request."""

    status: int
    etag: str
    """With the quotes, as it was sent."""
    body: bytes


class WebClient:
    """Transfers files and short documents with the guarded client. Every attempt starts from the first byte."""

    def __init__(self, trusted_hosts: tuple[str, ...], limits: TransferLimits, rng: random.Random) -> None:
        self._limits = limits
        self._rng = rng
        timeout = aiohttp.ClientTimeout(
            total=None, connect=limits.connect_s, sock_connect=limits.connect_s, sock_read=limits.idle_s
        )
        self._http = GuardedClient(trusted_hosts, timeout=timeout, redirects=limits.redirects)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, e, tb)

    async def get(self, url: str, path: Path, *, name: str, budget: TransferBudget, moved: Moved) -> None:
        """Fetches `url` into `path`. Raises InputMissing, InputDenied, InputEmpty, InputTooLarge, TransferFailed."""

        async def once() -> None:
            async with self._answer("GET", url, name) as response:
                await check_received(response, url, name)
                await save(response, path, name, budget, moved)

        await self._persist(once, url, f"{name} could not be fetched from {without_secrets_in(url)}", name)

    async def put(self, path: Path, url: str, *, name: str, content_type: str, moved: Moved) -> None:
        """Uploads `path` to `url`. Raises StoreDenied or TransferFailed."""
        size = (await asyncio.to_thread(path.stat)).st_size
        await self.put_piece(path, url, name=name, offset=0, size=size, content_type=content_type, moved=moved)

    async def put_piece(
        self, path: Path, url: str, *, name: str, offset: int, size: int, content_type: str, moved: Moved
    ) -> str:
        """Uploads `size` bytes of `path`, from `offset` on, to `url`; returns the store's ETag."""
        headers = {"Content-Length": str(size)} | ({"Content-Type": content_type} if content_type else {})
        etag = ""

        async def once() -> None:
            nonlocal etag
            async with asyncio.timeout(self._limits.connect_s + self._limits.idle_s) as silence:

                def body() -> AsyncIterator[bytes]:
                    return file_chunks(path, offset, size, lambda part: self._sent(silence, moved, part))

                async with self._answer("PUT", url, name, headers, body) as response:
                    await check_stored(response, url, name)
                    etag = response.headers.get("ETag", "")

        await self._persist(once, url, f"{name} could not be written to {without_secrets_in(url)}", name)
        return etag

    async def ask(
        self,
        method: Method,
        url: str,
        *,
        name: str,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = 2**16,
        whole: bool = True,
    ) -> HttpAnswer:
        """Sends a short request and returns the answer, whatever its status.

        It is retried while the server is away or cannot answer, and while a trusted one refuses. Without `whole` the
        rest of an answer above `max_bytes` is not read. Raises TransferFailed, AddressNotAllowed, and InputTooLarge.
        """
        found: HttpAnswer | None = None

        async def body() -> AsyncIterator[bytes]:
            yield data or b""

        async def once() -> None:
            nonlocal found
            length = {} if data is None else {"Content-Length": str(len(data))}
            async with asyncio.timeout(self._limits.connect_s + 2 * self._limits.idle_s):
                sent = body if data is not None else None
                async with self._answer(method, url, name, {**(headers or {}), **length}, sent) as response:
                    check_able(response.status, b"", url, name)
                    check_plain(response, url, name)
                    if whole:
                        content = await read_all(response, name, max_bytes)
                    else:
                        content = await read_beginning(response.content, max_bytes + 1)
                    check_able(response.status, content, url, name)
                    found = HttpAnswer(response.status, response.headers.get("ETag", ""), content)
                    check_granted(response.status, content, name)

        with suppress(StoreDenied):
            await self._persist(once, url, f"{name} could not be exchanged with {without_secrets_in(url)}", name)
        assert found is not None
        return found

    def _sent(self, silence: asyncio.Timeout, moved: Moved, part: float) -> None:
        silence.reschedule(asyncio.get_running_loop().time() + self._limits.idle_s)
        moved(part)

    async def _persist(self, once: Callable[[], Awaitable[None]], url: str, what: str, name: str) -> None:
        trusted = self._http.trusts(web_url(url, name))

        async def attempt() -> None:
            try:
                await once()
            except BROKEN as e:
                failure = connection_failure(e, self._limits.idle_s)
                raise TransferFailed(
                    f"{what}: {failure.reason}.", hint=failure.hint, where=name, retryable=failure.retryable
                ) from e

        retries = Retries(self._limits.trusted_retries if trusted else self._limits.retries, rng=self._rng)
        try:
            async with asyncio.timeout(self._limits.total_s):
                await retries.call(attempt, on=partial(is_passing, trusted=trusted))
        except TimeoutError as e:
            raise TransferFailed(
                f"{what}: it took longer than {self._limits.total_s:g} s.",
                hint="The other side is too slow or the file too large for the connection.",
                where=name,
            ) from e

    def _answer(
        self, method: Method, url: str, name: str, headers: Mapping[str, str] | None = None, body: Body | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._http.answer(method, web_url(url, name), name, headers=headers, body=body)
