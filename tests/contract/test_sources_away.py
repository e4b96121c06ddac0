"""What sources say when the other side goes away, and that they find it again.

Of message brokers this is told in test_brokers.py, of SQS and Redis beside what else is special about them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.benches import Bench, Intake, listening, listing
from support.servers import servers
from support.stores import new_bucket
from support.ways import opened


def standing(inbox: Intake, bench: Bench, *, ok: bool) -> bool:
    return all(inbox.standing[source.name].ok is ok for source in bench.sources)


@pytest.mark.parametrize("kind", ["folder", "folder-polling"])
async def test_a_folder_that_is_away_is_told_and_watched_again(kind: str, tmp_path: Path) -> None:
    async with opened(kind, {}, tmp_path) as bench, listening(bench) as inbox:
        root = tmp_path / "drop"
        root.rename(tmp_path / "away")
        await inbox.until(lambda: standing(inbox, bench, ok=False))
        told = inbox.standing["folder"]
        assert (told.code, str(root) in told.detail, bool(told.hint)) == ("source_unavailable", True, True)
        (tmp_path / "away").rename(root)
        await inbox.until(lambda: standing(inbox, bench, ok=True))
        await bench.put("a.mp3")
        await inbox.until(lambda: inbox.created["a.mp3"])


@pytest.mark.minio
@pytest.mark.parametrize("end", [servers.stop, servers.kill])
async def test_nothing_is_lost_when_a_store_that_is_listened_to_and_listed_restarts(
    own_server: Callable[..., Any], tmp_path: Path, end: Callable[[Any], None]
) -> None:
    server = await asyncio.to_thread(own_server, "minio")
    await asyncio.to_thread(new_bucket, server, "drop")
    meanwhile = {f"meanwhile/{i}.mp3" for i in range(20)}
    async with opened("minio", {"minio_server": server, "minio_bucket": "drop"}, tmp_path) as alone:
        bench = replace(alone, sources=(*alone.sources, listing(alone.store, alone.ledger, interval_s=0.3)))
        async with listening(bench) as inbox:
            await bench.put("before.mp3")
            await inbox.until(lambda: inbox.created["before.mp3"])
            await asyncio.to_thread(end, server)
            await inbox.until(lambda: standing(inbox, bench, ok=False))
            assert {told.code for told in inbox.standing.values()} == {"store_unavailable"}
            assert all(told.detail and told.hint for told in inbox.standing.values())
            await asyncio.to_thread(servers.restart, server)
            await bench.put(*meanwhile)
            await inbox.until(lambda: set(inbox.created) >= meanwhile and standing(inbox, bench, ok=True))
            await bench.put("after.mp3")
            await inbox.until(lambda: ("after.mp3", "minio") in {(event.key, event.source) for event in inbox.events})
