"""Finds the proxy for an address."""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit

from manifests.errors import ConfigError
from manifests.hosts import parse_web_address


def proxy_of_environment(address: str) -> str | None:
    """Returns the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name. Raises ConfigError for an unusable one.

    Call it once: a lookup by aiohttp would cost every request two threads, and a .netrc would displace our key.
    """
    parts = urlsplit(address)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    proxy = urllib.request.getproxies().get(parts.scheme)
    # Curl and other programs accept a proxy without "http://", too.
    if proxy and parse_web_address(proxy if "://" in proxy else f"http://{proxy}") is None:
        name = f"{parts.scheme.upper()}_PROXY"
        raise ConfigError(f"The proxy that {name} names is no usable address.", hint="Mend or unset it.", where=name)
    return proxy
