"""Receives from one queue with one client, and keeps the messages being processed hidden from other receivers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import structlog

from gpu_dispatch.net.retries import QUEUE, QUEUE_DELETE, Failure, Retries
from listener.events.envelopes import decode_message
from listener.events.event import MessageChannel, ObjectEvent
from listener.sources.base import Condition, Inbox, deliver
from listener.sources.sqs.queue import BATCH, SqsMessage, SqsQueue, SqsSettings, on_thread
from manifests.errors import GpuDropError, SourceUnavailable
from manifests.task_groups import task_group


class HiddenMessages:
    """The messages being processed, and when each must be hidden again. Times are seconds on the caller's clock.

    A message is due when half of its visibility timeout is over; two more checks, each a sixth of it later, can repeat
    a failed request.
    """

    def __init__(self, visibility_s: float) -> None:
        self.look_every_s = visibility_s / 6
        self._due_after_s = visibility_s / 2
        self._due: dict[str, tuple[float, SqsMessage]] = {}

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, message: SqsMessage) -> bool:
        return message.receipt in self._due

    def hidden(self, messages: Iterable[SqsMessage], now: float) -> None:
        """Notes that messages were just hidden, by their delivery or again."""
        for message in messages:
            self._due[message.receipt] = (now + self._due_after_s, message)

    def done(self, messages: Iterable[SqsMessage]) -> None:
        for message in messages:
            self._due.pop(message.receipt, None)

    def due(self, now: float) -> list[SqsMessage]:
        return [message for due, message in self._due.values() if due <= now]

    def all(self) -> list[SqsMessage]:
        return [message for _, message in self._due.values()]


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.sqs")

_CALL_S = 15.0
_CLOSE_S = 1.0
_SHORT_WAIT_S = 1
_MANY = BATCH // 2

T = TypeVar("T")


class SqsReceiver:
    """Receives, delivers and deletes messages. One receiver always waits; others help while batches are half full.

    Two shared cores, a server in memory that answers after 10 ms: 20,000 messages at 2,000 a second with eight
    receivers, 310 with one, 0.3 ms of processor each. moto loses simultaneous deletions.
    """

    def __init__(self, name: str, queue: SqsQueue, settings: SqsSettings, inbox: Inbox) -> None:
        self._queue = queue
        self._settings = settings
        self._name = name
        self._inbox = inbox
        self._held = HiddenMessages(settings.visibility_s)
        self._busy = asyncio.Event()
        self._told = False

    async def run(self) -> None:
        """Receives until an error that does not pass by itself; raises it."""
        async with task_group() as group:
            group.create_task(self._keep_hidden())
            group.create_task(self._wait_and_take())
            for _ in range(self._settings.receivers - 1):
                group.create_task(self._receive_when_busy())

    async def close(self) -> None:
        """Releases messages that are not recorded, within 1 s; others return after their visibility timeout."""
        held = self._held.all()
        with contextlib.suppress(GpuDropError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S), asyncio.TaskGroup() as group:
                for i in range(0, len(held), BATCH):
                    group.create_task(self._quietly(held[i : i + BATCH]))
        self._queue.close()

    async def _quietly(self, messages: Sequence[SqsMessage]) -> None:
        with contextlib.suppress(GpuDropError):
            await on_thread(lambda: self._queue.release(messages))

    async def _wait_and_take(self) -> None:
        """Receives for ever; retries while the server is unavailable, and raises every other error."""
        wait_s = 0

        def told(failure: Failure) -> None:
            nonlocal wait_s
            wait_s = 0
            self._inbox.report(self._name, Condition.problem(failure.gpudrop_error))
            about = {"error": str(failure.error), "retry_s": round(failure.wait_s, 2)}
            log.warning("queue_unavailable", source=self._name, **about)

        async def next_round() -> None:
            await self._round(wait_s)

        while True:
            await Retries(QUEUE).call(next_round, on=_is_away, on_failure=told)
            wait_s = self._settings.wait_s

    async def _round(self, wait_s: int) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        messages = await self._receive(wait_s)
        self._connected()
        if len(messages) < _MANY:
            self._busy.clear()
        else:
            self._busy.set()
        await self._take(messages)
        self._inbox.report(self._name, Condition(True, f"receives from {self._settings.queue_url}"))
        if not messages and wait_s and loop.time() - began < _SHORT_WAIT_S:
            await asyncio.sleep(_SHORT_WAIT_S)  # bounds the rate of requests to a server that does not wait

    def _connected(self) -> None:
        if not self._told:
            self._told = True
            # A new queue lacks earlier events, and every queue drops messages after some days.
            self._inbox.gap(self._name, f"connected to {self._settings.queue_url}")
            log.info("queue_connected", source=self._name, queue=self._settings.queue_url)

    async def _receive_when_busy(self) -> None:
        while True:
            await self._busy.wait()
            try:
                messages = await self._receive(_SHORT_WAIT_S)
                await self._take(messages)
            except SourceUnavailable as e:
                log.debug("queue_unavailable", source=self._name, error=str(e))
                messages = []
            if not messages:
                self._busy.clear()

    async def _receive(self, wait_s: int) -> list[SqsMessage]:
        # Messages that arrive after a cancellation must not stay hidden from other receivers.
        messages = await on_thread(lambda: self._queue.receive(wait_s), on_cancelled=self._queue.release)
        self._held.hidden(messages, asyncio.get_running_loop().time())
        return messages

    async def _take(self, messages: Sequence[SqsMessage]) -> None:
        if not messages:
            return
        events = [event for message in messages for event in self._decoded(message)]
        await deliver(self._inbox, events, source=self._name)
        self._held.done(messages)
        await self._delete(messages)

    def _decoded(self, message: SqsMessage) -> Sequence[ObjectEvent]:
        decoded = decode_message(message.body.encode(errors="replace"), MessageChannel.QUEUE, source=self._name)
        for item in decoded.ignored:
            self._inbox.count(self._name, item.reason)
            tell = log.warning if decoded.malformed else log.debug
            tell("message_ignored", source=self._name, message=message.id, reason=item.reason, detail=item.detail)
        if decoded.confirmation:
            self._inbox.count(self._name, "sns_confirmation")
        return decoded.events

    async def _delete(self, messages: Sequence[SqsMessage]) -> None:
        """Deletes messages. One that cannot be deleted is received again, and its events are known then."""
        left = messages

        async def rest() -> None:
            nonlocal left
            try:
                failed = await self._call(partial(self._queue.delete, left))
            except SourceUnavailable as e:
                log.warning("messages_not_deleted", source=self._name, messages=len(left), error=str(e))
                raise
            for each in failed:
                log.warning("message_not_deleted", source=self._name, message=each.message.id, code=each.code)
            left = [each.message for each in failed if not each.sender_fault]
            self._count("not_deleted", len(failed) - len(left))
            if left:
                raise SourceUnavailable(f"{self._settings.queue_url} did not delete {len(left)} messages.")

        try:
            await Retries(QUEUE_DELETE).call(rest, on=_is_away)
        except SourceUnavailable:
            self._count("not_deleted", len(left))

    async def _keep_hidden(self) -> None:
        """Hides messages again in time. Failures only cause a message to be received twice."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._held.look_every_s)
            due = self._held.due(loop.time())
            for i in range(0, len(due), BATCH):
                await self._hide(due[i : i + BATCH])

    async def _hide(self, messages: Sequence[SqsMessage]) -> None:
        seconds = round(self._settings.visibility_s)
        try:
            failed = await self._call(lambda: self._queue.hide(messages, seconds))
        except GpuDropError as e:
            self._count("not_hidden", len(messages))
            log.warning("messages_not_hidden", source=self._name, error=str(e), hint=e.info.hint)
            return
        lost = {each.message.receipt: each for each in failed}
        hidden = [each for each in messages if each in self._held and each.receipt not in lost]
        self._held.hidden(hidden, asyncio.get_running_loop().time())
        for each in failed:
            if each.message in self._held:
                self._count("not_hidden", 1)
                log.warning("message_not_hidden", source=self._name, message=each.message.id, code=each.code)

    async def _call(self, call: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(_CALL_S):
                return await on_thread(call)
        except TimeoutError as e:
            raise SourceUnavailable(f"{self._settings.queue_url} did not answer within {_CALL_S:.0f} s.") from e

    def _count(self, what: str, n: int) -> None:
        if n:
            self._inbox.count(self._name, what, n)


def _is_away(error: Exception) -> bool:
    return isinstance(error, SourceUnavailable)
