"""Thousands of drops at once, and what became of each in the ledger of an installation."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from listener.stores.s3.store import S3Store
from support.stores import settings_for

CLIENTS = 8
WAITING = b"audio: not-there.mp3"
"""A manifest whose run waits for its media: accepted like any other, and no work until then."""


async def drop_all(server: Any, bucket: str, keys: list[str], *, dropped: Callable[[int], None]) -> None:
    """Puts every key, eight at a time, until the store has it; `dropped` is told how many there are."""
    store = S3Store(settings_for(server, bucket))
    left = list(reversed(keys))
    done = 0

    async def client() -> None:
        nonlocal done
        while left:
            await store.write(bucket, left.pop(), WAITING, content_type="text/html")
            done += 1
            dropped(done)

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())
    await store.close()


def runs_by_key(state: Path) -> Counter[str]:
    """How many runs each key has, ended or not."""
    ledger = state / "ledger.sqlite"
    if not ledger.exists():
        return Counter()
    connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=30)
    try:
        return Counter(row[0] for row in connection.execute("SELECT key FROM gpudrop_runs"))
    except sqlite3.OperationalError:
        return Counter()
    finally:
        connection.close()


async def until_accepted(state: Path, keys: list[str], *, guard_s: float) -> Counter[str]:
    """The runs by key, once every key has one; what there is when that does not happen."""
    deadline = time.monotonic() + guard_s
    while True:
        found = await asyncio.to_thread(runs_by_key, state)
        if found.keys() >= set(keys) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.5)
