"""Events from a queue: S3 to SQS, S3 to SNS to SQS, S3 to EventBridge to SQS.

A message is deleted once its events are recorded, and kept hidden from other receivers until then. Any number of
listeners may receive from one queue, which hands each message to one of them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import structlog

from gpu_dispatch.net.retries import QUEUE, QUEUE_REFUSED, Failure, Retries, is_known
from listener.sources.base import Condition, Inbox
from listener.sources.sqs.queue import SqsQueue, SqsSettings, on_thread
from listener.sources.sqs.receiver import SqsReceiver
from manifests.errors import GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.sqs")


class SqsSource:
    """Receives from one queue. A cancellation returns at once, even while boto3 waits for the server."""

    exclusive = False

    def __init__(self, name: str, settings: SqsSettings) -> None:
        self._name = name
        self._settings = settings

    @property
    def name(self) -> str:
        return self._name

    async def run(self, inbox: Inbox) -> None:
        def told(failure: Failure) -> None:
            error = failure.gpudrop_error
            inbox.report(self.name, Condition.problem(error))
            about = {"code": error.info.code, "error": str(error), "hint": error.info.hint}
            log.error("queue_unusable", source=self.name, retry_s=round(failure.wait_s, 2), **about)

        probes = replace(QUEUE_REFUSED, longest_s=self._settings.probe_s)
        await Retries(QUEUE, lasting=probes).call(partial(self._run_session, inbox), on=is_known, on_failure=told)

    async def _run_session(self, inbox: Inbox) -> None:
        """Receives with one new client, which sees renewed keys, until an error that does not pass by itself."""
        queue = await on_thread(lambda: SqsQueue(self._settings), on_cancelled=SqsQueue.close)
        session = SqsReceiver(self._name, queue, self._settings, inbox)
        try:
            await session.run()
        finally:
            await session.close()


async def probe_queue(settings: SqsSettings) -> Condition:
    """Returns whether the keys are accepted, and how many messages wait. Bounded by the client's deadlines."""

    def look() -> int:
        queue = SqsQueue(settings)
        try:
            return queue.waiting()
        finally:
            queue.close()

    try:
        waiting = await on_thread(look)
    except GpuDropError as e:
        return Condition.problem(e)
    return Condition(True, f"{settings.queue_url} lets us in; about {waiting} messages wait")
