"""The interface of every event source, and the delivery of events to the inbox without loss."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import structlog

from gpu_dispatch.net.retries import INBOX, Failure, Retries
from listener.events.event import ObjectEvent
from manifests.errors import GpuDropError, StoreUnavailable


@dataclass(frozen=True, slots=True)
class Condition:
    """The condition of a source, as `gpudrop status` and the log show it."""

    ok: bool
    detail: str
    code: str = ""
    """Error code; empty when `ok`."""
    hint: str = ""
    """What to do when not `ok`."""

    @classmethod
    def problem(cls, error: GpuDropError) -> Condition:
        return cls(False, str(error), error.info.code, error.info.hint)


class Inbox(Protocol):
    """Takes the events of all sources."""

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        """Returns once every event is durably recorded or known to be of no interest; it is acknowledged only then.

        Concurrent calls share one transaction, so a source need not batch. Raises StoreUnavailable when the events
        cannot be recorded; the source delivers them again later.
        """
        ...

    def gap(self, source: str, reason: str) -> None:
        """Requests a listing, because events may have been missed (a stream reconnected, a buffer overflowed)."""
        ...

    def report(self, source: str, condition: Condition) -> None:
        """Reports the source's condition. A repeated condition costs nothing."""
        ...

    def count(self, source: str, what: str, n: int = 1) -> None:
        """Counts what led to no event. `what` is one of a few causes ("not_json", "wrong_token"), never a key."""
        ...


class EventSource(Protocol):
    """Delivers the events of one origin to the inbox."""

    @property
    def name(self) -> str: ...

    @property
    def exclusive(self) -> bool:
        """Whether only one of several listeners on one database may run it, because each would receive all events."""
        ...

    async def run(self, inbox: Inbox) -> None:
        """Delivers events until cancelled. Failures of the other side are reported and retried, not raised.

        May be run again after a cancellation, when this listener takes the lead again.
        """
        ...


class Opening:
    """Whether a source that clients connect to listens yet. The first outcome stays."""

    def __init__(self) -> None:
        self._decided = asyncio.Event()
        self._error: GpuDropError | None = None

    def succeeded(self) -> None:
        self._decided.set()

    def failed(self, error: GpuDropError) -> None:
        if not self._decided.is_set():
            self._error = error
            self._decided.set()

    async def wait(self) -> None:
        """Returns once the source listens. Raises the error that prevents it."""
        await self._decided.wait()
        if self._error:
            raise self._error


@runtime_checkable
class OpenSource(Protocol):
    """A source that clients connect to; the listener is ready once it is open."""

    @property
    def opening(self) -> Opening: ...


_SLOW_S = 5.0
Accept = Callable[[Sequence[ObjectEvent]], Awaitable[None]]
"""Takes events as Inbox.accept does."""

MAX_IN_FLIGHT = 20_000
"""Events whose delivery has begun; further ones wait at their origin."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources")


class Deliveries:
    """Concurrent deliveries, as tasks of `group`, for a source that need not know when its events are recorded."""

    def __init__(self, inbox: Inbox, source: str, group: asyncio.TaskGroup, *, most: int = MAX_IN_FLIGHT) -> None:
        self._inbox = inbox
        self._source = source
        self._group = group
        self._most = most
        self._events = 0
        self._room = asyncio.Event()

    async def begin(self, events: Sequence[ObjectEvent]) -> None:
        """Starts a delivery; waits first while more than `most` events would be under way."""
        if not events:
            return
        while self._events and self._events + len(events) > self._most:
            self._room.clear()
            await self._room.wait()
        self._events += len(events)
        self._group.create_task(self._deliver(events))

    async def _deliver(self, events: Sequence[ObjectEvent]) -> None:
        try:
            await deliver(self._inbox, events, source=self._source)
        finally:
            self._events -= len(events)
            self._room.set()


async def deliver(inbox: Inbox, events: Sequence[ObjectEvent], *, source: str) -> bool:
    """Delivers events, retrying until the inbox has them.

    False: it took over 5 s, and the sender may have dropped other events meanwhile. An event that the inbox refuses
    for good is logged and left out; the others of the batch are delivered.
    """
    if not events:
        return True
    loop = asyncio.get_running_loop()
    started = loop.time()
    await hand_over(partial(_accept_with_retries, inbox, source), events, source=source)
    return loop.time() - started <= _SLOW_S


async def hand_over(accept: Accept, events: Sequence[ObjectEvent], *, source: str) -> None:
    """Delivers events by `accept`; logs and leaves out those that are refused for good. Raises StoreUnavailable."""
    try:
        await accept(events)
    except StoreUnavailable:
        raise
    except GpuDropError:
        for event in events:
            try:
                await accept([event])
            except StoreUnavailable:
                raise
            except GpuDropError as e:
                told = {"code": e.info.code, "error": str(e), "hint": e.info.hint}
                log.error("event_refused", source=source, bucket=event.bucket, key=event.key, **told)


async def _accept_with_retries(inbox: Inbox, source: str, events: Sequence[ObjectEvent]) -> None:
    def told(failure: Failure) -> None:
        about = {"events": len(events), "error": str(failure.error), "retry_s": round(failure.wait_s, 2)}
        log.warning("events_not_accepted", source=source, **about)

    await Retries(INBOX).call(partial(inbox.accept, events), on=_is_away, on_failure=told)


def _is_away(error: Exception) -> bool:
    return isinstance(error, StoreUnavailable)
