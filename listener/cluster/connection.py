"""A connection to PostgreSQL that the server ends when it hears nothing, and the times that follow from that.

The answer to a query sent at t0 proves that the server knew this session at t0 or later. The server ends a session that
has sent nothing for server_s, so the session's locks are ours until t0 + server_s at least, whatever happens to the
network or to this process. The listener relies on them until t0 + lease_s: in the time between the two its work must
end, before another listener can begin it. Others try every retry_s, so a takeover lasts server_s + retry_s at most.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

import psycopg

from manifests.errors import ConfigError, StoreUnavailable

HINT = "Check that the database answers; it is tried again."
_OLDEST = 140000
_ENCODING = "UTF8"


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Times of a connection in seconds: beat_s < lease_s < server_s."""

    heartbeat_s: float = 2.0
    """Between two heartbeats."""
    lease_s: float = 4.5
    """How long an answer counts, from the sending of its query."""
    server_s: float = 6.5
    """Silence after which the server ends a session."""
    retry_s: float = 2.5
    """Longest time between two attempts to lead."""
    connect_s: float = 5.0
    """Limit of one attempt to connect."""


@dataclass(frozen=True, slots=True)
class PostgresConnection:
    """A connection whose session has its limits set."""

    connection: psycopg.AsyncConnection[Any]
    pid: int
    """Number of the session's process on the server."""
    asked_at: float
    """When the query that set the limits was sent, in seconds of the event loop."""


async def connect(url: str, keepalive: Keepalive) -> PostgresConnection:
    """Connects to `url`, as libpq takes it. Raises StoreUnavailable, and ConfigError for an unsuitable server."""
    try:
        async with asyncio.timeout(keepalive.connect_s):
            connection = await psycopg.AsyncConnection[Any].connect(
                url, autocommit=True, prepare_threshold=None, application_name="gpudrop"
            )
    except psycopg.OperationalError as e:
        raise StoreUnavailable(f"PostgreSQL cannot be reached: {brief(e)}.", hint=HINT) from e
    except TimeoutError as e:
        raise StoreUnavailable(f"PostgreSQL took no connection within {keepalive.connect_s:g} s.", hint=HINT) from e
    except psycopg.Error:  # its text may quote the URL, password and all
        raise ConfigError(
            "This is no URL of PostgreSQL.", hint="postgresql://USER@HOST/DATABASE", where="state"
        ) from None
    try:
        return await _prepare(connection, keepalive)
    except BaseException:
        await connection.close()
        raise


def brief(error: Exception) -> str:
    """Returns the first line of an error: libpq's own text holds names and addresses, and no password."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


async def _prepare(connection: psycopg.AsyncConnection[Any], keepalive: Keepalive) -> PostgresConnection:
    """Checks the server and sets the session's limits.

    TCP keepalives end a session in the middle of a query, where the server's limit of idle sessions does not apply.
    """
    if connection.info.server_version < _OLDEST:
        raise ConfigError("Several listeners need PostgreSQL 14 or newer.", hint="Upgrade it.", where="state")
    if (encoding := connection.info.parameter_status("server_encoding")) not in (_ENCODING, None):
        raise ConfigError(
            f"This database keeps text as {encoding}, and keys of objects may hold any character.",
            hint=f"Make one with: CREATE DATABASE gpudrop ENCODING '{_ENCODING}' TEMPLATE template0.",
            where="state",
        )
    limit = f"{keepalive.server_s * 1000:.0f}"
    settings = {
        "idle_session_timeout": limit,
        "idle_in_transaction_session_timeout": limit,
        "statement_timeout": f"{keepalive.lease_s * 1000:.0f}",
        "tcp_user_timeout": limit,
        "tcp_keepalives_idle": f"{max(1, math.ceil(keepalive.server_s) - 2)}",
        "tcp_keepalives_interval": "1",
        "tcp_keepalives_count": "3",
    }
    calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    asked_at = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(keepalive.lease_s):
            cursor = await connection.execute(f"SELECT pg_backend_pid(), {calls}".encode())
            row = await cursor.fetchone()
    except (psycopg.Error, OSError, TimeoutError) as e:
        raise StoreUnavailable(f"PostgreSQL did not take this session's settings: {brief(e)}.", hint=HINT) from e
    return PostgresConnection(connection, int(row[0]) if row else 0, asked_at)
