"""Files from and to http(s) addresses: bounded, retried, every hop checked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from gpu_dispatch.transfer.address import PublicResolver, SystemResolver, check_literal, is_trusted
from gpu_dispatch.transfer.answers import (
    BROKEN,
    REDIRECTS,
    check_able,
    check_granted,
    check_plain,
    check_received,
    check_stored,
    is_passing,
    reason_of,
)
from gpu_dispatch.transfer.bodies import Moved, chunks, read_all, read_some, save
from gpu_dispatch.transfer.limits import Budget, TransferLimits
from manifests.errors import InputDenied, InvalidPath, StoreDenied, TransferFailed
from manifests.hosts import parse_web_address
from manifests.shown import shown


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to a short request. `etag` is as it was sent, quotes included."""

    status: int
    etag: str
    body: bytes


class WebClient:
    """Two ways out: a free one for the hosts the task trusts, a guarded one (public addresses only) for the rest.

    Neither looks at proxy variables or keeps cookies. Every attempt starts from the first byte.
    """

    def __init__(self, trusted_hosts: tuple[str, ...], limits: TransferLimits, rng: random.Random) -> None:
        self._trusted = trusted_hosts
        self._limits = limits
        self._rng = rng
        # Never aiohttp's own choice: with aiodns installed it asks name servers past /etc/hosts.
        self._free = self._session(SystemResolver())
        self._guarded = self._session(PublicResolver())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._free.close()
        await self._guarded.close()

    async def get(self, url: str, path: Path, *, name: str, budget: Budget, moved: Moved) -> None:
        """Fetches `url` into `path`. Raises InputMissing, InputDenied, InputEmpty, InputTooLarge, TransferFailed."""

        async def once() -> None:
            async with self._answer("GET", url, name) as response:
                await check_received(response, url, name)
                await save(response, path, name, budget, moved)

        await self._persist(once, url, f"{name} could not be fetched from {shown(url)}", name)

    async def put(self, path: Path, url: str, *, name: str, content_type: str, moved: Moved) -> None:
        """Leaves `path` at `url`. Raises StoreDenied or TransferFailed."""
        size = (await asyncio.to_thread(path.stat)).st_size
        await self.put_piece(path, url, name=name, offset=0, size=size, content_type=content_type, moved=moved)

    async def put_piece(
        self, path: Path, url: str, *, name: str, offset: int, size: int, content_type: str, moved: Moved
    ) -> str:
        """Leaves `size` bytes of `path`, from `offset` on, at `url`; returns the ETag the store gave them."""
        headers = {"Content-Length": str(size)} | ({"Content-Type": content_type} if content_type else {})
        etag = ""

        async def once() -> None:
            nonlocal etag
            async with asyncio.timeout(self._limits.connect_s + self._limits.idle_s) as silence:

                def body() -> AsyncIterator[bytes]:
                    return chunks(path, offset, size, lambda part: self._sent(silence, moved, part))

                async with self._answer("PUT", url, name, headers, body) as response:
                    await check_stored(response, url, name)
                    etag = response.headers.get("ETag", "")

        await self._persist(once, url, f"{name} could not be written to {shown(url)}", name)
        return etag

    async def ask(
        self,
        method: Literal["GET", "PUT", "POST"],
        url: str,
        *,
        name: str,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = 2**16,
        whole: bool = True,
    ) -> Answer:
        """A short exchange, retried while the server is away or says that it is not able now, and while a trusted one
        refuses; the status it ends with is the caller's to judge. Raises TransferFailed, AddressNotAllowed, and
        InputTooLarge above `max_bytes`, unless the answer need not be `whole`: then the rest is not read."""
        found: Answer | None = None

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
                    content = await (read_all if whole else read_some)(response, name, max_bytes)
                    check_able(response.status, content, url, name)
                    found = Answer(response.status, response.headers.get("ETag", ""), content)
                    check_granted(response.status, content, name)

        with suppress(StoreDenied):
            await self._persist(once, url, f"{name} could not be exchanged with {shown(url)}", name)
        assert found is not None
        return found

    def _sent(self, silence: asyncio.Timeout, moved: Moved, part: float) -> None:
        silence.reschedule(asyncio.get_running_loop().time() + self._limits.idle_s)
        moved(part)

    async def _persist(self, once: Callable[[], Awaitable[None]], url: str, what: str, name: str) -> None:
        trusted = is_trusted(_parse(url, name), self._trusted)
        attempts = self._limits.trusted_attempts if trusted else self._limits.attempts
        try:
            async with asyncio.timeout(self._limits.total_s):
                for attempt in range(attempts):
                    if attempt:
                        cap = min(self._limits.backoff_cap_s, self._limits.backoff_s * 2.0**attempt)
                        await asyncio.sleep(self._rng.uniform(0.0, cap))
                    last = attempt + 1 == attempts
                    if await self._attempt(once, what, name, trusted=trusted, last=last):
                        return
        except TimeoutError as e:
            raise TransferFailed(
                f"{what}: it took longer than {self._limits.total_s:g} s.",
                hint="The other side is too slow or the file too large for the connection.",
                where=name,
            ) from e

    async def _attempt(
        self, once: Callable[[], Awaitable[None]], what: str, name: str, *, trusted: bool, last: bool
    ) -> bool:
        """Whether it went through; False when another attempt may help."""
        try:
            await once()
        except (TransferFailed, InputDenied, StoreDenied) as e:
            if last or not is_passing(e, trusted=trusted):
                raise
            return False
        except BROKEN as e:
            reason, retryable, hint = reason_of(e, self._limits)
            if last or not retryable:
                raise TransferFailed(f"{what}: {reason}.", hint=hint, where=name, retryable=retryable) from e
            return False
        return True

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        url: str,
        name: str,
        headers: dict[str, str] | None = None,
        body: Callable[[], AsyncIterator[bytes]] | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """The answer at the end of the redirects. Trust ends at the first hop to a host that has none."""
        hop = _parse(url, name)
        trusted = True
        for _ in range(self._limits.redirects + 1):
            trusted = trusted and is_trusted(hop, self._trusted)
            if not trusted:
                check_literal(hop)
            session = self._free if trusted else self._guarded
            data = body() if body else None
            async with session.request(method, hop, data=data, headers=headers, allow_redirects=False) as response:
                location = response.headers.get("Location")
                if response.status not in REDIRECTS[method] or not location:
                    yield response
                    return
                hop = _joined(hop, location, name)
        raise TransferFailed(
            f"{shown(url)} leads through more than {self._limits.redirects} redirects.",
            hint="Name the file's final address.",
            where=name,
            retryable=False,
        )

    def _session(self, resolver: AbstractResolver) -> aiohttp.ClientSession:
        limits = self._limits
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, limit=8),
            cookie_jar=aiohttp.DummyCookieJar(),
            # What comes compressed all the same is refused, see `check_plain`: inflated it may be of any size.
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=limits.connect_s, sock_connect=limits.connect_s, sock_read=limits.idle_s
            ),
            headers={"Accept-Encoding": "identity", "User-Agent": "gpudrop"},
            trust_env=False,
        )


def _joined(hop: URL, location: str, name: str) -> URL:
    try:
        leads_to = str(hop.join(URL(location, encoded=_is_quoted(location))))
    except ValueError as e:
        raise InvalidPath(
            f"{shown(str(hop))} leads to no usable address.", hint="Name the file's final address.", where=name
        ) from e
    return _parse(leads_to, name)


def _parse(url: str, name: str) -> URL:
    """An address that can be sent as it is, is: a signature holds for exactly that. Else it is quoted."""
    if url.partition(":")[0].lower() not in ("http", "https"):
        raise InvalidPath(f"{shown(url)} is no http address.", hint="Use http:// or https://.", where=name)
    if (address := parse_web_address(url)) is None:
        raise InvalidPath(f"{shown(url)} is no usable address.", hint="Check its spelling.", where=name)
    return URL(url if _is_quoted(url) else address.url, encoded=True)


def _is_quoted(url: str) -> bool:
    return url.isascii() and url.isprintable() and not any(c in url for c in ' "<>\\^`{|}')
