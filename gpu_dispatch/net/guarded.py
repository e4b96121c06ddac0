"""An HTTP client for untrusted addresses: it reaches public addresses only, and trusted hosts at any address."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Literal, Self

import aiohttp
from yarl import URL

from gpu_dispatch.net.resolver import PublicResolver, SystemResolver, check_literal, is_trusted
from gpu_dispatch.net.sessions import http_session
from manifests.errors import InvalidPath, TransferFailed
from manifests.hosts import parse_web_address
from manifests.text import without_secrets_in

Method = Literal["GET", "PUT", "POST"]
Body = Callable[[], AsyncIterator[bytes]]
"""Starts the body from its first byte; called at every hop."""

_REDIRECTS: Mapping[Method, frozenset[int]] = {
    "GET": frozenset({301, 302, 303, 307, 308}),
    "PUT": frozenset({307, 308}),
    "POST": frozenset({307, 308}),
}


class GuardedClient:
    """An HTTP client with a free session for trusted hosts, and a guarded one (public addresses only) for the rest.

    Use it as a context manager: it holds connections.

    `store.private_hosts` and `callbacks.private_hosts` are the only exceptions beside the store's endpoint: a store
    that redirects to another private host needs both names.
    """

    def __init__(
        self, trusted_hosts: tuple[str, ...], *, timeout: aiohttp.ClientTimeout, redirects: int | None = None
    ) -> None:
        """`redirects` is the most that are followed; with None a redirect is an answer like any other."""
        self._trusted = trusted_hosts
        self._redirects = redirects
        self._free = http_session(resolver=SystemResolver(), timeout=timeout)
        self._guarded = http_session(resolver=PublicResolver(), timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._free.close()
        await self._guarded.close()

    def trusts(self, url: URL) -> bool:
        return is_trusted(url, self._trusted)

    @asynccontextmanager
    async def answer(
        self, method: Method, url: URL, name: str, *, headers: Mapping[str, str] | None = None, body: Body | None = None
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """Yields the answer at the end of the redirects. Trust ends at the first hop to an untrusted host.

        Raises AddressNotAllowed, TransferFailed for too many redirects, InvalidPath for a redirect to no usable
        address, and what aiohttp raises.
        """
        hop, trusted = url, True
        for _ in range((self._redirects or 0) + 1):
            trusted = trusted and self.trusts(hop)
            if not trusted:
                check_literal(hop)
            session = self._free if trusted else self._guarded
            data = body() if body else None
            async with session.request(method, hop, data=data, headers=headers, allow_redirects=False) as response:
                location = response.headers.get("Location")
                if self._redirects is None or response.status not in _REDIRECTS[method] or not location:
                    yield response
                    return
                hop = _joined(hop, location, name)
        raise TransferFailed(
            f"{without_secrets_in(str(url))} leads through more than {self._redirects} redirects.",
            hint="Name the file's final address.",
            where=name,
            retryable=False,
        )


def web_url(url: str, name: str) -> URL:
    """Returns `url`, quoted only if it cannot be sent as it is: a signature covers exactly what is written.

    Raises InvalidPath for what is no http address.
    """
    if url.partition(":")[0].lower() not in ("http", "https"):
        raise InvalidPath(f"{without_secrets_in(url)} is no http address.", hint="Use http:// or https://.", where=name)
    if (address := parse_web_address(url)) is None:
        raise InvalidPath(f"{without_secrets_in(url)} is no usable address.", hint="Check its spelling.", where=name)
    return URL(url if _is_quoted(url) else address.url, encoded=True)


def _joined(hop: URL, location: str, name: str) -> URL:
    try:
        leads_to = str(hop.join(URL(location, encoded=_is_quoted(location))))
    except ValueError as e:
        raise InvalidPath(
            f"{without_secrets_in(str(hop))} leads to no usable address.",
            hint="Name the file's final address.",
            where=name,
        ) from e
    return web_url(leads_to, name)


def _is_quoted(url: str) -> bool:
    return url.isascii() and url.isprintable() and not any(c in url for c in ' "<>\\^`{|}')
