"""Events from MinIO's own stream (ListenBucketNotification), which needs no setup on the server.

The stream has no memory: events that happen while no connection is open are lost. So every new connection is reported
to the inbox as a gap, and a listing finds what was missed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

import aiohttp

from gpu_dispatch.net.sessions import http_session
from gpu_dispatch.net.tls import ca_context
from listener.config.credentials import AccessKeys, Keys
from listener.sources.base import Condition, Inbox
from listener.sources.minio.errors import per_bucket_may_work
from listener.sources.minio.follower import StreamConditions, StreamFollower
from listener.sources.minio.request import (
    Filters,
    ListenClient,
    ListenStream,
    MinioListenSettings,
    no_filter,
    plan_streams,
)
from manifests.errors import GpuDropError
from manifests.task_groups import task_group


def new_session(tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
    return http_session(tls=tls, connections=0)


def now_utc() -> datetime:
    return datetime.now(UTC)


class MinioListen:
    """Follows one stream over all buckets, or one per bucket where the server does not allow that.

    `keys` is called on a thread before each connection, so that it may fetch fresh ones. `filters` is called again
    after every end of a stream and by `replan`.
    """

    exclusive = True

    def __init__(
        self,
        settings: MinioListenSettings,
        keys: Keys,
        *,
        filters: Filters = no_filter,
        session_factory: Callable[[ssl.SSLContext | None], aiohttp.ClientSession] = new_session,
        now: Callable[[], datetime] = now_utc,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._filters = filters
        self._session_factory = session_factory
        self._now = now
        self._by_bucket = False
        self._replan = asyncio.Event()

    @property
    def name(self) -> str:
        return self._settings.name

    def replan(self) -> None:
        """Calls `filters` again soon. Only for the loop's own thread."""
        self._replan.set()

    async def run(self, inbox: Inbox) -> None:
        """Raises ConfigError when `ca_file` cannot be read; every later failure is reported and retried."""
        settings = self._settings
        tls = await asyncio.to_thread(ca_context, settings.ca_file, where="store.ca_file")
        self._by_bucket = False
        async with self._session_factory(tls) as session, task_group() as group:
            client = ListenClient(settings, self._keys, self._now, session)
            conditions = StreamConditions(inbox, self.name)
            following: dict[ListenStream, asyncio.Task[None]] = {}
            while True:
                self._replan.clear()
                wanted = plan_streams(settings.buckets, self._filters, by_bucket=self._by_bucket)
                conditions.use(wanted)
                for stream in following.keys() - set(wanted):
                    following.pop(stream).cancel()
                for stream in set(wanted) - following.keys():
                    follower = StreamFollower(stream, client, inbox, conditions, self._ended)
                    following[stream] = group.create_task(follower.follow())
                await self._replan.wait()

    def _ended(self, stream: ListenStream, error: GpuDropError) -> bool:
        self._replan.set()
        if stream.bucket or not self._settings.buckets or not per_bucket_may_work(error):
            return False
        self._by_bucket = True
        return True


async def probe_stream(
    settings: MinioListenSettings,
    keys: Keys,
    *,
    session_factory: Callable[[ssl.SSLContext | None], aiohttp.ClientSession] = new_session,
    now: Callable[[], datetime] = now_utc,
) -> Condition:
    """Returns whether events would arrive, and if not what to do.

    Takes `ping_s` seconds when they would; `ping_s + slack_s` at most, twice that when every bucket needs a stream.
    """
    try:
        tls = await asyncio.to_thread(ca_context, settings.ca_file, where="store.ca_file")
        async with session_factory(tls) as session:
            client = ListenClient(settings, keys, now, session)
            return await _probe_streams(client)
    except GpuDropError as e:
        return Condition.problem(e)


async def _probe_streams(client: ListenClient) -> Condition:
    keys = await client.current_keys()
    buckets = client.settings.buckets
    streams = plan_streams(buckets, no_filter, by_bucket=False)
    problem = await _first_error(client, streams, keys)
    if problem and len(buckets) > 1 and per_bucket_may_work(problem):
        streams = plan_streams(buckets, no_filter, by_bucket=True)
        problem = await _first_error(client, streams, keys)
    return Condition.problem(problem) if problem else Condition(True, f"events arrive: {', '.join(map(str, streams))}")


async def _first_error(client: ListenClient, streams: Sequence[ListenStream], keys: AccessKeys) -> GpuDropError | None:
    found = await asyncio.gather(*(_problem(client, stream, keys) for stream in streams))
    return next((error for error in found if error), None)


async def _problem(client: ListenClient, stream: ListenStream, keys: AccessKeys) -> GpuDropError | None:
    """Returns None at the first byte, which is a keep-alive when there is no event, else the error."""
    try:
        async with aclosing(client.listen(stream, keys)) as sent:
            await anext(sent)
    except GpuDropError as e:
        return e
    return None
