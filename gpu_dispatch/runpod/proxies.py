"""Which proxy leads to RunPod."""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit


def proxy_of_environment(address: str) -> str | None:
    """By HTTPS_PROXY, HTTP_PROXY and NO_PROXY; to be asked once.

    Not left to the client's library: that costs every call two threads, and what a .netrc holds would displace our key.
    """
    parts = urlsplit(address)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    return urllib.request.getproxies().get(parts.scheme)
