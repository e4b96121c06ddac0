"""Delivering to the inbox without losing anything."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import structlog

from gpu_dispatch.net.retries import INBOX, Failure, Retries
from listener.events import ObjectEvent
from listener.sources.base import Inbox
from manifests.errors import GpuDropError, StoreUnavailable

_SLOW_S = 5.0
MOST_UNDER_WAY = 20_000
"""Events whose delivery has begun; those that come then wait where they come from."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources")


class Deliveries:
    """Deliveries side by side, for a source that need not know when its events are recorded: tasks of `group`."""

    def __init__(self, inbox: Inbox, source: str, group: asyncio.TaskGroup, *, most: int = MOST_UNDER_WAY) -> None:
        self._inbox = inbox
        self._source = source
        self._group = group
        self._most = most
        self._events = 0
        self._fewer = asyncio.Event()

    async def begin(self, events: Sequence[ObjectEvent]) -> None:
        """Returns at once, or when the inbox has so many of those under way that few enough are left."""
        if not events:
            return
        while self._events and self._events + len(events) > self._most:
            self._fewer.clear()
            await self._fewer.wait()
        self._events += len(events)
        self._group.create_task(self._deliver(events))

    async def _deliver(self, events: Sequence[ObjectEvent]) -> None:
        try:
            await deliver(self._inbox, events, source=self._source)
        finally:
            self._events -= len(events)
            self._fewer.set()


async def deliver(inbox: Inbox, events: Sequence[ObjectEvent], *, source: str) -> bool:
    """Tries until the inbox has the events. False: it took so long that whoever told them may have dropped others.

    Events that it will never have (an error that does not pass) are logged and left out, not their neighbours.
    """
    if not events:
        return True
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        await _insist(inbox, events, source)
    except GpuDropError:
        for event in events:
            try:
                await _insist(inbox, [event], source)
            except GpuDropError as e:
                told = {"code": e.info.code, "error": str(e), "hint": e.info.hint}
                log.error("event_refused", source=source, bucket=event.bucket, key=event.key, **told)
    return loop.time() - started <= _SLOW_S


async def _insist(inbox: Inbox, events: Sequence[ObjectEvent], source: str) -> None:
    def told(failure: Failure) -> None:
        about = {"events": len(events), "error": str(failure.error), "retry_s": round(failure.wait_s, 2)}
        log.warning("events_not_accepted", source=source, **about)

    await Retries(INBOX).call(partial(inbox.accept, events), on=_is_away, told=told)


def _is_away(error: Exception) -> bool:
    return isinstance(error, StoreUnavailable)
