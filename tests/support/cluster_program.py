"""A listener reduced to its place among others: `cluster_program.py URL JOURNAL NAME [look]`.

It leads "role" whenever it can and writes to JOURNAL what happens to it, a JSON object a line, with the machine's
monotonic time read before the fact it tells. With "look" it keeps looking for orphans among those who ever wrote there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import sys
import time
from pathlib import Path

from listener.cluster.connection import Keepalive
from listener.cluster.postgres import PostgresCluster
from manifests.errors import StoreUnavailable

BRISK = Keepalive(heartbeat_s=0.3, lease_s=1.0, server_s=1.6, retry_s=0.4)
"""As the real one, faster: for what a silence brings about. A busy machine is silent for a second, too."""

CALM = Keepalive(heartbeat_s=0.3, lease_s=60.0, server_s=90.0, retry_s=0.4, connect_s=60.0)
"""For what must happen although nobody is silent: a busy machine does not end a session."""


LOST = 3
"""The exit status of a program that lost its place."""


async def open_at_last(cluster: PostgresCluster) -> None:
    """Again when its pace was too brisk for this machine, as a listener is started again."""
    async with asyncio.timeout(240):
        while True:
            try:
                return await cluster.open()
            except StoreUnavailable:
                await asyncio.sleep(0.1)


class Program:
    def __init__(self, url: str, journal: str, name: str) -> None:
        self._path = Path(journal)
        pace = Keepalive() if os.environ.get("CLUSTER_PACE") == "real" else BRISK
        self._cluster = PostgresCluster(url, random.Random(), pace)
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._name = name

    async def run(self, *, look: bool) -> int:
        await open_at_last(self._cluster)
        self._note("open")
        tasks = [asyncio.create_task(self._cluster.lead("role", self._work))]
        if look:
            tasks.append(asyncio.create_task(self._look()))
        lost = asyncio.create_task(self._cluster.lost.wait())
        await asyncio.wait({lost, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                await task
        self._note("lost")
        return LOST

    async def _work(self) -> None:
        self._note("lead")
        try:
            while True:
                now = time.monotonic()
                self._note("tick", now, sure=self._cluster.certain)
                await asyncio.sleep(0.02)
        finally:
            self._note("end")

    async def _look(self) -> None:
        while True:
            among = set(re.findall(r'"member": "(m\d+)"', self._path.read_text()))
            with contextlib.suppress(StoreUnavailable):
                async with self._cluster.orphans(among) as found:
                    since = time.monotonic()
                    await asyncio.sleep(random.uniform(0, 0.05))
                    now = time.monotonic()
                    if self._cluster.certain:
                        self._note("held", now, since=since, found=found)
            await asyncio.sleep(random.uniform(0, 0.1))

    def _note(self, what: str, at: float | None = None, **more: object) -> None:
        line = {"at": at or time.monotonic(), "name": self._name, "member": self._cluster.member, "what": what, **more}
        os.write(self._journal, json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    program = Program(*sys.argv[1:4])
    sys.exit(asyncio.run(program.run(look=sys.argv[4:] == ["look"])))
