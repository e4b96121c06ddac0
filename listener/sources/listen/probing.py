"""One look at the event stream, for `gpudrop check`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import datetime

import aiohttp

from gpu_dispatch.net.tls import ca_context
from listener.configuration.credentials import AccessKeys, Keys
from listener.sources.base import Condition
from listener.sources.listen.calling import ListenClient, MinioListenSettings
from listener.sources.listen.errors import other_plan_may_do
from listener.sources.listen.planning import ListenStream, anything, plan_streams
from listener.sources.listen.source import new_session, now_utc
from manifests.errors import GpuDropError


async def probe_stream(
    settings: MinioListenSettings,
    keys: Keys,
    *,
    session_factory: Callable[[ssl.SSLContext | None], aiohttp.ClientSession] = new_session,
    now: Callable[[], datetime] = now_utc,
) -> Condition:
    """Whether events would arrive, and if not what to do.

    Takes `ping_s` when they would; `ping_s + slack_s` at most, twice that when every bucket needs its own stream.
    """
    try:
        tls = await asyncio.to_thread(ca_context, settings.ca_file, where="store.ca_file")
        async with session_factory(tls) as session:
            caller = ListenClient(settings, keys, now, session)
            return await _heard(caller)
    except GpuDropError as e:
        return Condition.problem(e)


async def _heard(caller: ListenClient) -> Condition:
    keys = await caller.current_keys()
    buckets = caller.settings.buckets
    streams = plan_streams(buckets, anything, by_bucket=False)
    problem = await _first_trouble(caller, streams, keys)
    if problem and len(buckets) > 1 and other_plan_may_do(problem):
        streams = plan_streams(buckets, anything, by_bucket=True)
        problem = await _first_trouble(caller, streams, keys)
    return Condition.problem(problem) if problem else Condition(True, f"events arrive: {', '.join(map(str, streams))}")


async def _first_trouble(
    caller: ListenClient, streams: Sequence[ListenStream], keys: AccessKeys
) -> GpuDropError | None:
    found = await asyncio.gather(*(_problem(caller, stream, keys) for stream in streams))
    return next((error for error in found if error), None)


async def _problem(caller: ListenClient, stream: ListenStream, keys: AccessKeys) -> GpuDropError | None:
    """None as soon as the first byte is there: the server sends its first keep-alive when it has no event."""
    try:
        async with aclosing(caller.listen(stream, keys)) as sent:
            await anext(sent)
    except GpuDropError as e:
        return e
    return None
