"""Asking a server for its events: where, with which keys, over which connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import aiohttp

from listener.configuration.credentials import AccessKeys, Keys
from listener.decoding.names import EVENT_NAMES
from listener.sources.listen.connection import ListenRequest, stream_chunks
from listener.sources.listen.planning import ListenStream
from listener.sources.listen.signing import signed_get
from manifests.errors import GpuDropError, StoreUnavailable


@dataclass(frozen=True, slots=True)
class MinioListenSettings:
    """`endpoint` is "http://host:port"; no `buckets` are all of the server. Without `path_style` a bucket stands in the
    host's name. Keep-alives are asked for every `ping_s` (whole) seconds; a connection silent for `ping_s + slack_s` is
    given up. What only a person can mend is tried again every `probe_s` seconds at most."""

    endpoint: str
    buckets: tuple[str, ...]
    region: str = "us-east-1"
    path_style: bool = True
    ca_file: Path | None = None
    ping_s: int = 2
    slack_s: float = 10.0
    probe_s: float = 180.0
    name: str = "minio"


@dataclass(frozen=True, slots=True)
class ListenClient:
    """`keys` is asked on a thread; `now` gives UTC; `session` trusts the authorities of `settings`."""

    settings: MinioListenSettings
    keys: Keys
    now: Callable[[], datetime]
    session: aiohttp.ClientSession

    async def current_keys(self) -> AccessKeys:
        """Raises a GpuDropError, whatever went wrong."""
        try:
            return await asyncio.to_thread(self.keys)
        except GpuDropError:
            raise
        except Exception as e:
            # Whoever gives the keys may ask servers and libraries of its own, and no error of theirs may end a stream.
            raise StoreUnavailable(
                f"There are no keys for {self.settings.endpoint}: {type(e).__name__}.",
                hint="Check where GPUDROP_S3_ACCESS_KEY and GPUDROP_S3_SECRET_KEY come from.",
            ) from e

    def listen(self, stream: ListenStream, keys: AccessKeys) -> AsyncGenerator[bytes, None]:
        """What the server sends on `stream`; see `connection.chunks`."""
        settings = self.settings
        url = listen_url(settings, stream)
        headers = signed_get(url, keys=keys, region=settings.region, now=self.now())
        request = ListenRequest(settings.endpoint, stream.bucket, url, headers, settings.ping_s + settings.slack_s)
        return stream_chunks(self.session, request)


def listen_url(settings: MinioListenSettings, stream: ListenStream) -> str:
    parts = urlsplit(settings.endpoint)
    in_host = stream.bucket and not settings.path_style
    host = f"{stream.bucket}.{parts.netloc}" if in_host else parts.netloc
    path = "" if in_host else quote(stream.bucket, safe="")
    # Sorted: the signature is over sorted values, the server takes them in the order they come.
    query = [("events", name) for name in sorted(EVENT_NAMES)] + [("ping", str(settings.ping_s))]
    query += [("prefix", stream.filter.prefix)] if stream.filter.prefix else []
    query += [("suffix", stream.filter.suffix)] if stream.filter.suffix else []
    return f"{parts.scheme}://{host}/{path}?{urlencode(query, quote_via=quote, safe='')}"
