"""Events from MinIO's own stream (ListenBucketNotification): nothing to set up on the server.

The stream has no memory: what happens while nobody listens is never told. So every connection, once it stands, is
announced to the inbox as a gap, and a listing finds the rest.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode

import aiohttp
import structlog

from listener.decoding.records import EVENT_NAMES, Ignored, KeyEncoding, decode_message
from listener.events import ObjectEvent
from listener.sources.base import Inbox
from listener.sources.delivery import Retries, deliver
from listener.sources.listen.connection import ListenRequest, chunks
from listener.sources.listen.lines import LineSplitter
from listener.sources.listen.signing import AccessKeys, signed_get
from manifests.errors import ConfigError, GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.minio")

_HEALTHY_S = 10.0
_BACKOFF_CAP_S = 30.0
_FIRST_PROBE_S = 15.0
_MAX_LINE_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class MinioListenSettings:
    """`endpoint` is "http://host:port". Keep-alives are asked for every `ping_s` (whole) seconds; a connection silent
    for `ping_s + slack_s` is given up. What only a person can mend is tried again every `probe_s` seconds at most."""

    endpoint: str
    buckets: tuple[str, ...]
    region: str = "us-east-1"
    ca_file: Path | None = None
    ping_s: int = 2
    slack_s: float = 10.0
    probe_s: float = 180.0


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


def _now() -> datetime:
    return datetime.now(UTC)


class MinioListen:
    """One connection a bucket. `keys` is asked before each one, on a thread, so that it may fetch fresh ones."""

    name = "minio"
    exclusive = True

    def __init__(
        self,
        settings: MinioListenSettings,
        keys: Callable[[], AccessKeys],
        *,
        session_factory: Callable[[], aiohttp.ClientSession] = _session,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._session_factory = session_factory
        self._now = now
        self._ignored: Counter[str] = Counter()

    @property
    def ignored(self) -> Mapping[str, int]:
        """How many records led to no event, by reason."""
        return self._ignored

    async def run(self, inbox: Inbox) -> None:
        """Raises ConfigError when `ca_file` cannot be read; every later trouble is outlived."""
        tls = await asyncio.to_thread(_tls_context, self._settings.ca_file)
        async with self._session_factory() as session, asyncio.TaskGroup() as group:
            for bucket in self._settings.buckets:
                group.create_task(self._follow(session, tls, bucket, inbox))

    async def _follow(
        self, session: aiohttp.ClientSession, tls: ssl.SSLContext | bool, bucket: str, inbox: Inbox
    ) -> None:
        """Listens, and again after every end of the stream, for ever."""
        backoff = Retries(0.5, _BACKOFF_CAP_S)
        loop = asyncio.get_running_loop()
        probe_s = _FIRST_PROBE_S
        while True:
            began = loop.time()
            error = await self._listen(session, tls, bucket, inbox)
            if error.retryable:
                if loop.time() - began > _HEALTHY_S:
                    backoff.reset()
                probe_s = _FIRST_PROBE_S
                wait_s = backoff.next_s()
                log.warning("stream_ended", bucket=bucket, error=str(error), retry_s=round(wait_s, 2))
            else:
                wait_s = min(probe_s, self._settings.probe_s)
                probe_s *= 2
                log.error(
                    "no_stream",
                    bucket=bucket,
                    code=error.info.code,
                    error=str(error),
                    hint=error.info.hint,
                    probe_s=wait_s,
                )
                inbox.gap(self.name, f"no event stream of {bucket}: {error.info.code}")
            await asyncio.sleep(wait_s)

    async def _listen(
        self, session: aiohttp.ClientSession, tls: ssl.SSLContext | bool, bucket: str, inbox: Inbox
    ) -> GpuDropError:
        """One connection from its request to its end; returns why it ended."""
        splitter = LineSplitter(_MAX_LINE_BYTES)
        established = False
        try:
            async with aclosing(chunks(session, await self._request(bucket), tls)) as stream:
                async for chunk in stream:
                    if not established:
                        established = True
                        log.info("stream_connected", bucket=bucket, endpoint=self._settings.endpoint)
                        inbox.gap(self.name, f"the event stream of {bucket} was connected")
                    await self._take(splitter, chunk, inbox)
        except GpuDropError as e:
            return e
        raise AssertionError("the stream ended without a reason")

    async def _take(self, splitter: LineSplitter, chunk: bytes, inbox: Inbox) -> None:
        dropped = splitter.dropped
        events = [event for line in splitter.feed(chunk) for event in self._decoded(line)]
        if not await deliver(inbox, events, source=self.name):
            inbox.gap(self.name, "events were accepted slowly: the server may have dropped others")
        if splitter.dropped > dropped:
            inbox.gap(self.name, f"an event was longer than {_MAX_LINE_BYTES} bytes")

    def _decoded(self, line: bytes) -> list[ObjectEvent]:
        events: list[ObjectEvent] = []
        for item in decode_message(line, encoding=KeyEncoding.RAW, source=self.name):
            if isinstance(item, Ignored):
                self._ignored[item.reason] += 1
                log.debug("record_ignored", source=self.name, reason=item.reason, detail=item.detail)
            else:
                events.append(item)
        return events

    async def _request(self, bucket: str) -> ListenRequest:
        settings = self._settings
        # Sorted: the signature is over sorted values, the server takes them in the order they come.
        query = [("events", name) for name in sorted(EVENT_NAMES)] + [("ping", str(settings.ping_s))]
        url = f"{settings.endpoint.rstrip('/')}/{quote(bucket, safe='')}?{urlencode(query)}"
        keys = await asyncio.to_thread(self._keys)
        headers = signed_get(url, keys=keys, region=settings.region, now=self._now())
        return ListenRequest(settings.endpoint, bucket, url, headers, settings.ping_s + settings.slack_s)


def _tls_context(ca_file: Path | None) -> ssl.SSLContext | bool:
    """True: the authorities this machine trusts."""
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except OSError as e:
        raise ConfigError(
            f"The certificates in {ca_file} cannot be read: {e}.", hint="Give a PEM file.", where="ca_file"
        ) from e
