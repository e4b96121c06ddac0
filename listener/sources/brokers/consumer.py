"""The source over any broker: collects messages, decodes and records them, and only then acknowledges.

A broker hands what is not acknowledged to another listener after 60 s (NATS), 5 min (Kafka) or 30 min (RabbitMQ). A few
messages come twice, also after an orderly end. What the ledger cannot take is held and offered to it again,
unacknowledged.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

import structlog

from gpu_dispatch.net.retries import BROKER, BROKER_REFUSED, Failure, Retries, is_known
from listener.events.envelopes import decode_message
from listener.events.event import MessageChannel, ObjectEvent
from listener.sources.base import Condition, Inbox, deliver
from manifests.errors import GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.brokers")

MOST = 500
"""Most messages of a batch: one transaction of the inbox, one acknowledgement."""

_LAST_S = 3.0
"""How long a cancelled acknowledgement may go on."""


@dataclass(frozen=True, slots=True)
class MessageBatch:
    """Messages in order of arrival, at most MOST; empty after a while without any."""

    bodies: Sequence[bytes]
    acknowledge: Callable[[], Awaitable[None]]
    """Lets the broker drop them; without it, the broker delivers them again. Raises GpuDropError when that fails."""


class BrokerSession(Protocol):
    """One connection to a broker, set up to receive."""

    async def collect(self) -> MessageBatch:
        """Waits for messages. Raises GpuDropError at most about 15 s after the connection broke."""
        ...


class Broker(Protocol):
    """A connection to one kind of broker."""

    @property
    def place(self) -> str:
        """The address and the name on it that messages show, without secrets."""
        ...

    @property
    def exclusive(self) -> bool:
        """See EventSource.exclusive."""
        ...

    def session(self) -> AbstractAsyncContextManager[BrokerSession]:
        """Connects within a deadline, and sets up what the listener owns: consumer, queue, subscription.

        Raises GpuDropError.
        """
        ...


class BrokerSource:
    """An EventSource over any broker. Several listeners may share one unless it is exclusive."""

    def __init__(self, name: str, broker: Broker) -> None:
        self._name = name
        self._broker = broker

    @property
    def name(self) -> str:
        return self._name

    @property
    def exclusive(self) -> bool:
        return self._broker.exclusive

    async def run(self, inbox: Inbox) -> None:
        """Reconnects for ever. Raises only when cancelled."""
        retries = Retries(BROKER, lasting=BROKER_REFUSED)

        def lost(failure: Failure) -> None:
            _heed_cancel()
            error = failure.gpudrop_error
            inbox.report(self._name, Condition.problem(error))
            told = {"code": error.info.code, "error": str(error), "hint": error.info.hint}
            tell = log.warning if error.retryable else log.error
            tell("broker_lost", source=self._name, retry_s=round(failure.wait_s, 2), **told)

        await retries.call(partial(self._listen, inbox, retries.reset), on=is_known, on_failure=lost)

    async def _listen(self, inbox: Inbox, served: Callable[[], None]) -> None:
        """Listens on one connection, and raises the error that ended it."""
        place = self._broker.place
        async with self._broker.session() as session:
            _heed_cancel()
            inbox.report(self._name, Condition(True, f"listening to {place}"))
            # Some stores drop what they cannot publish, and a new queue holds nothing old.
            inbox.gap(self._name, f"connected to {place}")
            log.info("broker_connected", source=self._name, place=place)
            while True:
                await self._take(await session.collect(), inbox)
                _heed_cancel()
                served()

    async def _take(self, batch: MessageBatch, inbox: Inbox) -> None:
        if not batch.bodies:
            return
        await deliver(inbox, self._read(batch.bodies, inbox), source=self._name)
        await _finish(batch.acknowledge())

    def _read(self, bodies: Sequence[bytes], inbox: Inbox) -> list[ObjectEvent]:
        """Decodes the events of all messages. A message without events is counted, and acknowledged with the others."""
        events: list[ObjectEvent] = []
        ignored: Counter[str] = Counter()
        for body in bodies:
            decoded = decode_message(body, MessageChannel.BROKER, source=self._name)
            events += decoded.events
            for item in decoded.ignored:
                ignored[item.reason] += 1
                log.debug("message_ignored", source=self._name, reason=item.reason, detail=item.detail)
        for reason, n in ignored.items():
            inbox.count(self._name, reason, n)
        return events


async def _finish(acknowledging: Awaitable[None]) -> None:
    """Awaits an acknowledgement, for _LAST_S more when cancelled, because the broker delivers again without it."""
    task = asyncio.ensure_future(acknowledging)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=_LAST_S)
        if not task.cancel() and not task.cancelled():
            task.exception()
        raise


def _heed_cancel() -> None:
    """Raises a cancellation that a client turned into an error or lost (asyncio.wait_for before Python 3.12)."""
    if (task := asyncio.current_task()) and task.cancelling():
        raise asyncio.CancelledError


async def nothing() -> None:
    """Acknowledges an empty batch."""


T = TypeVar("T")


class Mailbox(Generic[T]):
    """A queue filled on the event loop, with one reader. The broker's prefetch bounds it."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._lost: GpuDropError | None = None
        self._changed = asyncio.Event()

    def put(self, item: T) -> None:
        self._items.append(item)
        self._changed.set()

    def lose(self, error: GpuDropError) -> None:
        """Makes `take` raise `error`: messages left cannot be acknowledged without the connection, and come again."""
        self._lost = self._lost or error
        self._changed.set()

    async def take(self, most: int, *, linger_s: float = 0.0) -> list[T]:
        """Waits for the first item, then `linger_s` for others, and takes up to `most`. Raises the error of `lose`."""
        while not self._lost and not self._items:
            self._changed.clear()
            await self._changed.wait()
        if linger_s and len(self._items) < most:
            await asyncio.sleep(linger_s)
        if self._lost:
            raise self._lost
        return [self._items.popleft() for _ in range(min(most, len(self._items)))]
