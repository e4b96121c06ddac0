"""Addresses as they may be told: without user, password, query and fragment, where tokens and signatures stand."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{0,20}:(?:\\?/){2}(?:[^\s'\"<>]|['<>](?=[\w%&=+/?;-]))+", re.IGNORECASE)
"""In any text; JSON may write a slash as "\\/". Quotes and angles end an address, unless it goes on behind them."""
_START = re.compile(r"([a-z][a-z0-9+.-]{0,20}:(?:\\?/){2})([^/?#\\]*)([^?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_OBJECTS = ("s3", "file")
"""Schemes whose addresses have no query: "?" and "#" are characters of a key."""
MOST = 200


def without_secrets_in(url: str) -> str:
    """`url` fit for messages and logs, at most about 200 characters of it."""
    text = _cut(url, "")
    return text if len(text) <= MOST else text[:MOST] + "…"


def without_queries(text: str) -> str:
    """`text` in which every address has lost its user, password, query and fragment; "…" stands where something was."""
    return _ADDRESS.sub(lambda found: _cut(found[0], "…"), text) if ":" in text else text


def _cut(url: str, instead: str) -> str:
    if url[:5].lower() == "data:":
        return "data:…"
    parts = _START.fullmatch(url)
    if parts is None or parts[1].partition(":")[0].lower() in _OBJECTS:
        return url
    user, at, host = parts[2].rpartition("@")
    # A password with "/", "?" or "#" in it is none that clients agree on: what follows the last "@" is shown at most.
    password = ":" in host and not re.fullmatch(r"(\[[^\]]*\]|[^:]*):[0-9]*", host)
    if password and "@" in parts[3] + parts[4]:
        return parts[1] + "…"
    return parts[1] + (instead if user or at else "") + host + parts[3] + (instead if parts[4] else "")
