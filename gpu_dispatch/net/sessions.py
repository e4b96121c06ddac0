"""Sessions of HTTP: how every one of them is set up."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import aiohttp
from aiohttp.abc import AbstractResolver

from gpu_dispatch.net.resolver import SystemResolver

AGENT = "gpudrop"
"""Who calls. Some servers turn away clients that do not say."""

_TIMEOUT = aiohttp.ClientTimeout(total=300.0, sock_connect=30.0)


def http_session(
    *,
    resolver: AbstractResolver | None = None,
    tls: ssl.SSLContext | None = None,
    timeout: aiohttp.ClientTimeout = _TIMEOUT,
    connections: int = 8,
    compressed: bool = False,
    headers: Mapping[str, str] | None = None,
) -> aiohttp.ClientSession:
    """A session without cookies, that heeds neither proxy variables nor a .netrc: what a way needs it is given.

    `resolver` looks names up, by default as the system does: aiohttp's own choice asks name servers past /etc/hosts
    where aiodns is installed. `tls` says whom to trust, by default the system's authorities. `connections` may be open
    at a time; 0 is any number. Without `compressed` bodies are asked for as they are, and nothing is inflated.
    """
    as_it_is = {} if compressed else {"Accept-Encoding": "identity"}
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=resolver or SystemResolver(),
            use_dns_cache=False,
            limit=connections,
            ssl=True if tls is None else tls,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=compressed,
        timeout=timeout,
        headers={"User-Agent": AGENT, **as_it_is, **(headers or {})},
        trust_env=False,
    )
