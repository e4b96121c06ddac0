"""One look at a queue, for `gpudrop check`: nothing is taken from it."""

from __future__ import annotations

from listener.sources.base import Condition
from listener.sources.sqs.queue import SqsQueue, SqsSettings
from listener.sources.sqs.threads import on_thread
from manifests.errors import GpuDropError


async def probe_queue(settings: SqsSettings) -> Condition:
    """Whether the keys let us in, and how much waits. Takes as long as the client's own deadlines at most."""

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
