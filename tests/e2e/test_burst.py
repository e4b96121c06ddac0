"""Thousands of drops while everything that can go wrong on the way in does: each becomes one run.

GPUDROP_BURST=10000 makes it ten thousand.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from minio.notificationconfig import NotificationConfig, QueueConfig

from support.burst import drop_all, until_accepted
from support.deadlines import HANG_S
from support.installation import Installation, MinioDrops
from support.sources import Proxy
from support.stores import admin_client, servers, start_minio

DROPS = int(os.environ.get("GPUDROP_BURST", "1200"))
KEYS = [f"burst/{i % 97:02}/{i:05}.job.yaml" for i in range(DROPS)]
GUARD_S = HANG_S


def installed(folder: Path, server: Any, endpoint: str, **environ: str) -> Installation:
    folder.mkdir()
    client = admin_client(server)
    client.make_bucket("burst")
    config = {"store": {"kind": "s3", "endpoint": endpoint, "buckets": ["burst"]}, "state": str(folder / "state")}
    keys = {"GPUDROP_S3_ACCESS_KEY": server.access_key, "GPUDROP_S3_SECRET_KEY": server.secret_key}
    return Installation(folder, MinioDrops(client, "burst"), config, {**keys, **environ})


async def test_a_cut_stream_and_a_killed_listener_lose_nothing(tmp_path: Path, minio_server: Any) -> None:
    async with Proxy(minio_server.host).serve() as proxy:
        install = installed(tmp_path / "gpudrop", minio_server, proxy.endpoint)
        cuts = {DROPS * (40 + 48 * i) // 1000 for i in range(20)}
        kills = {DROPS * share // 10 for share in (2, 5, 8)}
        trouble: asyncio.Queue[str] = asyncio.Queue()

        def dropped(n: int) -> None:
            if n in cuts:
                proxy.reset_all()
            if n in kills:
                trouble.put_nowait("kill")

        async def killing() -> None:
            while True:
                await trouble.get()
                await asyncio.to_thread(install.kill)
                await asyncio.to_thread(install.start)

        try:
            await asyncio.to_thread(install.start)
            killer = asyncio.create_task(killing())
            await drop_all(minio_server, "burst", KEYS, dropped=dropped)
            found = await until_accepted(tmp_path / "gpudrop" / "state", KEYS, guard_s=GUARD_S)
            killer.cancel()
        finally:
            await asyncio.to_thread(install.kill)
    assert len(install.logs) == 4
    assert set(found) == set(KEYS)
    assert set(found.values()) == {1}


@pytest.fixture
def receiver_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def posting_minio(tmp_path: Path, receiver_port: int) -> Iterator[Any]:
    """A server that posts its events to the receiver, and keeps on disk what it cannot deliver."""
    queue = tmp_path / "queue"
    queue.mkdir()
    environment = {
        "MINIO_NOTIFY_WEBHOOK_ENABLE_W": "on",
        "MINIO_NOTIFY_WEBHOOK_ENDPOINT_W": f"http://127.0.0.1:{receiver_port}/minio",
        "MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_W": "burst-token",
        "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_W": str(queue),
    }
    server = start_minio("minio", tmp_path / "minio", environment=environment)
    yield server
    servers.stop(server)


async def test_a_receiver_that_was_away_loses_nothing(tmp_path: Path, posting_minio: Any, receiver_port: int) -> None:
    install = installed(
        tmp_path / "gpudrop", posting_minio, posting_minio.endpoint, GPUDROP_WEBHOOK_TOKEN="burst-token"
    )
    events = NotificationConfig(
        queue_config_list=[QueueConfig(queue="arn:minio:sqs::W:webhook", events=["s3:ObjectCreated:Put"])]
    )
    install.drops.client.set_bucket_notification("burst", events)
    # Nothing is listed: every drop must come through the receiver.
    webhook = {"kind": "webhook", "listen": f"127.0.0.1:{receiver_port}", "path": "/minio"}
    away, back = asyncio.Event(), asyncio.Event()

    def dropped(n: int) -> None:
        if n == DROPS // 10:
            away.set()
        if n == DROPS * 9 // 10:
            back.set()

    async def absence() -> None:
        await away.wait()
        await asyncio.to_thread(install.kill)
        await back.wait()
        await asyncio.to_thread(install.start)

    try:
        await asyncio.to_thread(install.start, sources=[webhook])
        absent = asyncio.create_task(absence())
        await drop_all(posting_minio, "burst", KEYS, dropped=dropped)
        await absent
        found = await until_accepted(tmp_path / "gpudrop" / "state", KEYS, guard_s=GUARD_S)
    finally:
        await asyncio.to_thread(install.kill)
    assert set(found) == set(KEYS)
    assert set(found.values()) == {1}
