"""Translates failures of connections: into plain words, and into whether a retry can help."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

import aiohttp

from gpu_dispatch.net.tls import tls_failure

BROKEN = (aiohttp.ClientError, TimeoutError, OSError)
"""The errors with which an exchange breaks off."""


@dataclass(frozen=True, slots=True)
class ConnectionFailure:
    reason: str
    """Completes "PLACE cannot be used: …"."""
    retryable: bool
    hint: str


def connection_failure(e: BaseException, silent_s: float) -> ConnectionFailure:
    """Translates `e`; aiohttp's own words would show URLs. `silent_s`: the longest silence that was allowed."""
    if isinstance(e, aiohttp.ClientSSLError) and (failure := tls_failure(str(e))):
        return ConnectionFailure(failure.reason, not failure.lasting, failure.hint)
    if isinstance(e, aiohttp.InvalidURL):
        return ConnectionFailure("it is no usable address", False, "Check its spelling.")
    if isinstance(e, aiohttp.ClientConnectorDNSError):
        unknown = isinstance(e.os_error, socket.gaierror) and e.os_error.errno == socket.EAI_NONAME
        return ConnectionFailure("its host name is unknown", not unknown, "Check the host's name.")
    if isinstance(e, TimeoutError):
        hint = "The server is slow or overloaded; try again later."
        return ConnectionFailure(f"the other side was silent for {silent_s:g} s", True, hint)
    if isinstance(e, aiohttp.ClientConnectorError):
        reason = f"no connection ({e.os_error.strerror or 'refused'})"
        return ConnectionFailure(reason, True, "Is the server running and reachable?")
    hint = "Check the network and the server's log."
    return ConnectionFailure("the connection broke off before the end", True, hint)


def retry_after(value: str, now: float) -> float:
    """Returns the seconds that a Retry-After header (a number or a date) asks for, or 0. `now` is epoch seconds."""
    if re.fullmatch(r"\s*\d{1,9}\s*", value, re.ASCII):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
        return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0
