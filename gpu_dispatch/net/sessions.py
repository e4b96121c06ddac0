"""Sets up every HTTP session of the program."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import aiohttp
from aiohttp.abc import AbstractResolver

from gpu_dispatch.net.resolver import SystemResolver

AGENT = "gpudrop"
"""User agent: some servers reject clients without one."""

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
    """Returns a session without cookies that ignores proxy variables and any .netrc.

    `resolver` looks names up, by default as the system does: aiohttp's own choice bypasses /etc/hosts where aiodns is
    installed. `tls` says whom to trust, by default the system's authorities. `connections` is the most at a time; 0: no
    limit. Without `compressed`, bodies are requested uncompressed and nothing is inflated.
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
