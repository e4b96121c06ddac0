"""A Redis list, where MinIO's `access` format appends events.

One command moves an item to a second list, KEY:processing. It is removed from there when its events are recorded. Items
that a dead listener left there are read first by the next.

One listener leads at a time. A listener that was paused while another took over does no harm: it removes items by
value, and only items whose events it recorded. Both may record the same event, which starts nothing twice.

An item that is popped dies with the process, lists have no acknowledgement, and MinIO's `access` format knows only
RPUSH. Redis 6.2 or Valkey; with appendfsync always 20,000 items of 1 KB move at 5,000 to 11,000 a second, 0.04 ms of
processor each. What MinIO could not append is in no list: each connection is a gap, and MinIO's `queue_dir` keeps it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import redis.asyncio as aio
from redis import exceptions as vendor
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gpu_dispatch.net.tls import TlsFiles, client_context
from listener.config.environment import SourceSecrets
from listener.sources.brokers.consumer import MOST, BrokerSession, MessageBatch, nothing
from listener.sources.brokers.errors import broker_tls_error
from manifests.errors import ConfigError, GpuDropError, ServerMisbehaves, SourceDenied, SourceUnavailable

_MAX_SAID = 200
_USER = "Set GPUDROP_<NAME>_USER and GPUDROP_<NAME>_PASSWORD in the environment as the server knows them."
_REFUSALS: dict[str, tuple[str, str]] = {
    "WRONGTYPE": (
        "it is no list",
        "MinIO's `namespace` format writes a hash, which keeps no history: set format=access and another key there.",
    ),
    "NOAUTH": ("the server wants a password", _USER),
    "WRONGPASS": ("the server does not accept the user or the password", _USER),
    "DENIED": (
        "the server is in protected mode",
        "Give it a password, or let it listen where only this side can reach.",
    ),
    "NOPERM": (
        "the user may not do this",
        "Allow LMOVE, BLMOVE, LREM, LLEN and LRANGE on the key and on KEY:processing to this user (ACL SETUSER).",
    ),
    "OOM": ("the server's memory is used up", "Raise maxmemory: an item cannot be moved while it is exceeded."),
    "MISCONF": ("the server cannot write to its disk and takes no writes", "Mend the disk; see the server's log."),
    "MOVED": ("the server is part of a cluster", "Give a server of its own: clusters are not spoken to."),
    "CROSSSLOT": ("the server is part of a cluster", "Give a server of its own: clusters are not spoken to."),
}
_LATER = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY ", "UNBLOCKED")


def redis_error(error: Exception, place: str) -> GpuDropError:
    """Translates an error of the client: SourceUnavailable passes by itself, the others need an operator."""
    head = f"Could not take events from {place}: "
    said = str(error)
    if isinstance(error, vendor.AuthenticationError | vendor.AuthorizationError):
        reason, hint = _REFUSALS["WRONGPASS"]
        return SourceDenied(f"{head}{reason}.", hint=hint)
    if denied := broker_tls_error(place, said):
        return denied
    if isinstance(error, vendor.BusyLoadingError | vendor.ReadOnlyError | vendor.ClusterError):
        return SourceUnavailable(f"{head}{said[:_MAX_SAID]}.", hint="It is tried again.")
    if isinstance(error, vendor.ResponseError):
        return _refused(error, head, said)
    if isinstance(error, vendor.InvalidResponse):
        hint = "Check that host and port in `url` are a Redis server's, and rediss:// where it speaks TLS."
        return ServerMisbehaves(f"{head}the answer is not Redis's.", hint=hint)
    told = said[:_MAX_SAID].rstrip(".") or "no answer in time"
    return SourceUnavailable(f"{head}{told}.", hint="Check that the server runs, and `url`.")


def _refused(error: vendor.ResponseError, head: str, said: str) -> GpuDropError:
    """Translates by the first word, or by the class where redis-py strips that word."""
    word = said.partition(" ")[0]
    if isinstance(error, vendor.NoPermissionError):
        word = "NOPERM"
    elif isinstance(error, vendor.OutOfMemoryError):
        word = "OOM"
    if word in _REFUSALS:
        reason, hint = _REFUSALS[word]
        return SourceDenied(f"{head}{reason}.", hint=hint)
    if said.startswith(_LATER):
        return SourceUnavailable(f"{head}{said[:_MAX_SAID]}.", hint="It is tried again.")
    if "unknown command" in said.lower():
        return ServerMisbehaves(f"{head}the server is too old.", hint="It needs LMOVE: Redis 6.2 or newer, or Valkey.")
    return SourceDenied(f"{head}{said[:_MAX_SAID]}.", hint="See the server's log.")


_CONNECT_S = 5.0
_CLOSE_S = 1.0


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """How Redis is reached, and which list is read."""

    url: str
    """redis://host:port/db, or rediss:// for TLS."""
    key: str
    """The list's."""
    tls: TlsFiles = field(default_factory=TlsFiles)
    secrets: SourceSecrets = field(default_factory=SourceSecrets)
    idle_s: int = 5
    """How long the server is asked to wait for an item."""
    slack_s: float = 5.0
    """An answer must come within `idle_s + slack_s`."""

    @property
    def processing(self) -> str:
        return f"{self.key}:processing"


class RedisBroker:
    """A Broker over redis-py. One listener at a time may use a list."""

    exclusive = True

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings

    @property
    def place(self) -> str:
        parts = urlsplit(self._settings.url)
        return f"the Redis list {self._settings.key!r} on {parts.hostname}:{parts.port or 6379}"

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[BrokerSession, None]:
        client = await _client(self._settings)
        try:
            session = _RedisSession(self.place, client, self._settings)
            await session.settle(())
            yield session
        finally:
            with suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await client.aclose()


class _RedisSession:
    """A BrokerSession over one connection, one command at a time."""

    def __init__(self, place: str, client: aio.Redis, settings: RedisSettings) -> None:
        self._place = place
        self._client = client
        self._settings = settings
        self._left_behind: Sequence[bytes] = ()
        self._waiting = 0

    async def collect(self) -> MessageBatch:
        async with self._answered():
            if items := self._left_behind or await self._take():
                return MessageBatch(items, lambda: self.settle(items))
        await self.settle(())
        return MessageBatch((), nothing)

    async def settle(self, done: Sequence[bytes]) -> None:
        """Removes `done` from KEY:processing, and reads what lies there and how many items wait.

        A server may still serve the blocked request of a dead listener; what it moves is found here.
        """
        settings = self._settings
        pipeline: Any = self._client.pipeline(transaction=False)
        for item in done:
            pipeline.lrem(settings.processing, 1, item)
        pipeline.lrange(settings.processing, 0, MOST - 1)
        pipeline.llen(settings.key)
        async with self._answered():
            *_, left_behind, waiting = await _answers(pipeline)
        self._left_behind, self._waiting = left_behind, waiting

    async def _take(self) -> list[bytes]:
        """Moves up to MOST waiting items; with none waiting, the next one that comes within `idle_s`."""
        key, processing = self._settings.key, self._settings.processing
        if not self._waiting:
            moved = await self._client.blmove(key, processing, self._settings.idle_s, "LEFT", "RIGHT")
            return [] if moved is None else [cast("bytes", moved)]
        pipeline: Any = self._client.pipeline(transaction=False)
        for _ in range(min(self._waiting, MOST)):
            pipeline.lmove(key, processing, "LEFT", "RIGHT")
        return [item for item in await _answers(pipeline) if item is not None]

    @asynccontextmanager
    async def _answered(self) -> AsyncGenerator[None, None]:
        """Bounds the wait for an answer, and translates the client's errors."""
        try:
            async with asyncio.timeout(self._settings.idle_s + self._settings.slack_s):
                yield
        except (RedisError, OSError) as e:
            raise redis_error(e, self._place) from e


async def _answers(pipeline: Any) -> list[Any]:
    """Returns a pipeline's answers, or raises the first error among them: the client's own exception quotes items."""
    answers = cast("list[Any]", await pipeline.execute(raise_on_error=False))
    for answer in answers:
        if isinstance(answer, RedisError):
            raise answer
    return answers


async def _client(settings: RedisSettings) -> aio.Redis:
    """Returns a client that connects with its first command. Raises ConfigError."""
    try:
        made: Any = aio.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            settings.url,
            username=settings.secrets.user or None,
            password=settings.secrets.password or None,
            socket_connect_timeout=_CONNECT_S,
            # The client's deadline may swallow a cancellation (asyncio.wait_for before Python 3.12): _answered has one.
            socket_timeout=None,
            # BrokerSource counts, reports and spaces attempts.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            max_connections=1,
            client_name="gpudrop",
            **await _tls_options(settings),
        )
    except ValueError as e:
        raise ConfigError(f"{settings.url!r} is no address of a Redis server: {e}.", hint="Correct `url`.") from e
    return cast("aio.Redis", made)


async def _tls_options(settings: RedisSettings) -> dict[str, Any]:
    if urlsplit(settings.url).scheme != "rediss":
        return {}
    # Reads the files first: redis-py reports an unreadable file as an unreachable server.
    await asyncio.to_thread(client_context, settings.tls)
    files = {
        "ssl_ca_certs": settings.tls.ca_file,
        "ssl_certfile": settings.tls.cert_file,
        "ssl_keyfile": settings.tls.key_file,
    }
    return {name: str(file) for name, file in files.items() if file}
