"""Events from a queue: S3 to SQS, S3 to SNS to SQS, S3 to EventBridge to SQS.

The queue forgets a message only when it is deleted, which happens once its events are recorded. Until then it is kept
hidden from other receivers. Any number of listeners may receive from one queue: it hands each message to one of them.
"""

from __future__ import annotations

import asyncio

import structlog

from listener.sources.base import Condition, Inbox
from listener.sources.delivery import Retries
from listener.sources.sqs.queue import Queue, SqsSettings
from listener.sources.sqs.session import Session
from listener.sources.sqs.threads import on_thread
from manifests.errors import GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.sqs")

_FIRST_PROBE_S = 5.0
_HEALTHY_S = 60.0


class SqsSource:
    """See SqsSettings. Cancelled, it returns at once, though boto3 may be waiting for the server."""

    exclusive = False

    def __init__(self, name: str, settings: SqsSettings) -> None:
        self._name = name
        self._settings = settings

    @property
    def name(self) -> str:
        return self._name

    async def run(self, inbox: Inbox) -> None:
        loop = asyncio.get_running_loop()
        probe_s = _FIRST_PROBE_S
        backoff = Retries(0.5, 30.0)
        while True:
            began = loop.time()
            error = await self._attend(inbox)
            if loop.time() - began > _HEALTHY_S:
                probe_s = _FIRST_PROBE_S
                backoff.reset()
            wait_s = backoff.next_s() if error.retryable else min(probe_s, self._settings.probe_s)
            probe_s *= 1 if error.retryable else 2
            inbox.report(self.name, Condition.trouble(error))
            told = {"code": error.info.code, "error": str(error), "hint": error.info.hint}
            log.error("queue_unusable", source=self.name, retry_s=round(wait_s, 2), **told)
            await asyncio.sleep(wait_s)

    async def _attend(self, inbox: Inbox) -> GpuDropError:
        """Receives with one client until something ends that which does not pass by itself; returns it."""
        try:
            # Anew each time, so that keys which were renewed outside are seen.
            queue = await on_thread(lambda: Queue(self._settings), unwanted=Queue.close)
        except GpuDropError as e:
            return e
        session = Session(self._name, queue, self._settings, inbox)
        try:
            return await session.run()
        finally:
            await session.close()
