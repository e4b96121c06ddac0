"""Plans the streams to request, each as narrow as its filters allow, and signs the request for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import aiohttp

from listener.config.credentials import AccessKeys, Keys
from listener.events.records import EVENT_NAMES
from listener.sources.minio.connection import ListenRequest, stream_chunks
from listener.stores.s3.signatures import signed_headers
from listener.triggers.filters import EVERYTHING, Filter, common_filter
from manifests.errors import GpuDropError, StoreUnavailable

Filters = Callable[[str], Sequence[Filter]]
"""Returns the filters of a bucket: keys that pass any are of interest; without filters none is."""


def no_filter(bucket: str) -> Sequence[Filter]:
    del bucket
    return EVERYTHING


@dataclass(frozen=True, slots=True)
class ListenStream:
    """One event stream."""

    bucket: str
    """Empty: the whole server."""
    filter: Filter = EVERYTHING[0]

    def __str__(self) -> str:
        return f"bucket {self.bucket!r}" if self.bucket else "all buckets"


def plan_streams(buckets: Sequence[str], filters: Filters, *, by_bucket: bool) -> tuple[ListenStream, ...]:
    """Returns one stream over those of `buckets` that have filters; without `buckets`, over the whole server.

    `by_bucket`: one stream for each, because the server offers none over all.
    """
    if not buckets:
        return (ListenStream(""),)
    wanted = {bucket: found for bucket in dict.fromkeys(buckets) if (found := filters(bucket))}
    if by_bucket or len(wanted) < 2:
        return tuple(ListenStream(bucket, common_filter(found)) for bucket, found in wanted.items())
    return (ListenStream("", common_filter([each for found in wanted.values() for each in found])),)


@dataclass(frozen=True, slots=True)
class MinioListenSettings:
    """Settings of MinioListen."""

    endpoint: str
    """As "http://host:port"."""
    buckets: tuple[str, ...]
    """Empty: all of the server."""
    region: str = "us-east-1"
    path_style: bool = True
    """False: a bucket stands in the host's name."""
    ca_file: Path | None = None
    ping_s: int = 2
    """Seconds between two keep-alives, requested from the server."""
    slack_s: float = 10.0
    """A connection is given up after `ping_s + slack_s` seconds of silence."""
    probe_s: float = 180.0
    """Longest wait in seconds between retries of what only a person can fix."""
    name: str = "minio"


@dataclass(frozen=True, slots=True)
class ListenClient:
    """Opens signed streams at one server."""

    settings: MinioListenSettings
    keys: Keys
    """Called on a thread."""
    now: Callable[[], datetime]
    """Returns UTC."""
    session: aiohttp.ClientSession
    """Trusts the authorities of `settings`."""

    async def current_keys(self) -> AccessKeys:
        """Returns the keys to sign with. Every error is a GpuDropError."""
        try:
            return await asyncio.to_thread(self.keys)
        except GpuDropError:
            raise
        except Exception as e:
            # `keys` may call other servers and libraries; none of their errors may end the source.
            raise StoreUnavailable(
                f"There are no keys for {self.settings.endpoint}: {type(e).__name__}.",
                hint="Check where GPUDROP_S3_ACCESS_KEY and GPUDROP_S3_SECRET_KEY come from.",
            ) from e

    def listen(self, stream: ListenStream, keys: AccessKeys) -> AsyncGenerator[bytes, None]:
        """Yields what the server sends on `stream`; see `stream_chunks`."""
        settings = self.settings
        url = listen_url(settings, stream)
        plain = {"Accept-Encoding": "identity"}
        headers = signed_headers("GET", url, keys=keys, region=settings.region, now=self.now(), headers=plain)
        request = ListenRequest(settings.endpoint, stream.bucket, url, headers, settings.ping_s + settings.slack_s)
        return stream_chunks(self.session, request)


def listen_url(settings: MinioListenSettings, stream: ListenStream) -> str:
    parts = urlsplit(settings.endpoint)
    in_host = stream.bucket and not settings.path_style
    host = f"{stream.bucket}.{parts.netloc}" if in_host else parts.netloc
    path = "" if in_host else quote(stream.bucket, safe="")
    # Sorted, because the signature covers sorted values and the server takes them in the order sent.
    query = [("events", name) for name in sorted(EVENT_NAMES)] + [("ping", str(settings.ping_s))]
    query += [("prefix", stream.filter.prefix)] if stream.filter.prefix else []
    query += [("suffix", stream.filter.suffix)] if stream.filter.suffix else []
    return f"{parts.scheme}://{host}/{path}?{urlencode(query, quote_via=quote, safe='')}"
