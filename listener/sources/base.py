"""The one shape that every source of events has, and its delivery to the inbox without losing anything."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import structlog

from gpu_dispatch.net.retries import INBOX, Failure, Retries
from listener.events.event import ObjectEvent
from manifests.errors import GpuDropError, StoreUnavailable


@dataclass(frozen=True, slots=True)
class Condition:
    """How a source stands: what `gpudrop status` and the log show. `hint` says what to do when it is not `ok`."""

    ok: bool
    detail: str
    code: str = ""
    hint: str = ""

    @classmethod
    def problem(cls, error: GpuDropError) -> Condition:
        return cls(False, str(error), error.info.code, error.info.hint)


class Inbox(Protocol):
    """Where sources deliver."""

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        """Returns once every event is durably recorded or known to be of no interest: only then may it be acknowledged.

        Calls made at the same time share one transaction: a source need not batch for the inbox's sake.
        Raises StoreUnavailable when it cannot record them; the source delivers the same events again later.
        """
        ...

    def gap(self, source: str, reason: str) -> None:
        """Tells that events may have been missed (a stream was just connected, a buffer overflowed): reconcile soon."""
        ...

    def report(self, source: str, condition: Condition) -> None:
        """Tells how the source stands whenever that changes. A repeated condition costs nothing."""
        ...

    def count(self, source: str, what: str, n: int = 1) -> None:
        """Counts what led to no event ("not_json", "wrong_token"). `what` is one of few: it names a cause, no key."""
        ...


class EventSource(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def exclusive(self) -> bool:
        """Whether only one of several listeners on one database may run it: each would be told everything."""
        ...

    async def run(self, inbox: Inbox) -> None:
        """Delivers events until cancelled. Troubles of the other side are reported and outlived, not raised.

        It may be cancelled and run again: another listener led meanwhile.
        """
        ...


class Opening:
    """Whether a source that others come to has an address of its own yet. The first word on it stays."""

    def __init__(self) -> None:
        self._told = asyncio.Event()
        self._error: GpuDropError | None = None

    def succeeded(self) -> None:
        self._told.set()

    def failed(self, error: GpuDropError) -> None:
        if not self._told.is_set():
            self._error = error
            self._told.set()

    async def wait(self) -> None:
        """Returns once the source takes what comes. Raises why it does not."""
        await self._told.wait()
        if self._error:
            raise self._error


@runtime_checkable
class OpenSource(Protocol):
    """A source that others come to: they are told that this program is ready."""

    @property
    def opening(self) -> Opening: ...


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
