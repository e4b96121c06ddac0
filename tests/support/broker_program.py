"""A listener to be killed: hears one source, and writes the key of every event to a file before it accepts it.

python -m support.broker_program KIND HOST NAME FILE
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from listener.events.event import ObjectEvent
from listener.sources.base import Condition
from support.brokers import bench_of

RECORDING_S = 0.1
"""How long recording takes: time for a kill to meet messages that were received and not recorded."""


class FileInbox:
    """One line a key, on disk when `accept` returns."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        await asyncio.sleep(RECORDING_S)
        with self._file.open("a", encoding="utf-8") as out:
            out.writelines(f"{event.key}\n" for event in events)
            out.flush()
            os.fsync(out.fileno())

    def gap(self, source: str, reason: str) -> None: ...

    def report(self, source: str, condition: Condition) -> None:
        print(source, condition, file=sys.stderr, flush=True)

    def count(self, source: str, what: str, n: int = 1) -> None: ...


if __name__ == "__main__":
    kind, host, name, file = sys.argv[1:]
    asyncio.run(bench_of(kind, host, name).source().run(FileInbox(Path(file))))
