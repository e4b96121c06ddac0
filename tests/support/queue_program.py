"""A listener reduced to one source: `queue_program.py sqs|redis PLACE KEY JOURNAL [hold]`.

What was accepted is written to JOURNAL, a key a line, and is on disk before it counts as accepted. With "hold" nothing
is ever accepted: the keys are written as "held KEY". It ends well on SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from listener.config.environment import SourceSecrets
from listener.events.event import ObjectEvent
from listener.sources.base import Condition, EventSource
from listener.sources.brokers.consumer import BrokerSource
from listener.sources.brokers.redis import RedisBroker, RedisSettings
from listener.sources.sqs.queue import SqsSettings
from listener.sources.sqs.source import SqsSource


class Journal:
    def __init__(self, path: str, *, hold: bool) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._hold = hold

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        self._write("".join(f"{'held ' if self._hold else ''}{event.key}\n" for event in events))
        if self._hold:
            await asyncio.Event().wait()

    def gap(self, source: str, reason: str) -> None: ...

    def report(self, source: str, condition: Condition) -> None:
        self._write(f"condition {condition.ok} {condition.detail}\n")

    def count(self, source: str, what: str, n: int = 1) -> None: ...

    def _write(self, text: str) -> None:
        os.write(self._file, text.encode())
        os.fsync(self._file)


def source_of(kind: str, place: str, key: str) -> EventSource:
    if kind == "redis":
        return BrokerSource("redis", RedisBroker(RedisSettings(place, key)))
    return SqsSource("sqs", SqsSettings(place, visibility_s=5, secrets=SourceSecrets("access", "secret")))


async def main(kind: str, place: str, key: str, journal: str, hold: str = "") -> None:
    work = asyncio.create_task(source_of(kind, place, key).run(Journal(journal, hold=bool(hold))))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    await asyncio.wait([work])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
