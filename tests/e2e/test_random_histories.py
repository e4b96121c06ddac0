"""Hundreds of drops of every kind, while the store, its keys, the listener, the workers and the provider fail.

The history is drawn from a seed, which is printed: GPUDROP_SEED=… draws it again, GPUDROP_DROPS=… a longer one.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.histories.callbacks import Receiver
from support.histories.drops import BARE_PREFIX, MEDIA, PICTURE, Drop, make_drops, media_bytes
from support.histories.expected import wrong
from support.histories.listener import Listener
from support.histories.outages import make_schedule
from support.histories.player import Player
from support.histories.remains import Reader
from support.histories.store_proxy import StoreProxy
from support.installation import MinioDrops
from support.runpod.cloud import Cloud, runpod
from support.stores import admin_client, servers, start_minio

DROPS = int(os.environ.get("GPUDROP_DROPS", "300"))
SEED = int(os.environ.get("GPUDROP_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
SPAN_S = max(15.0, DROPS * 0.13)
WITHIN_S = 120.0 + DROPS * 0.1
"""So long the last may take once nothing is spoiled any more; a run waits half a minute before it asks again."""

BUCKET = "drops"
ENDPOINT = "history"
CONFIG = {
    "store": {"kind": "s3", "buckets": [BUCKET]},
    "endpoints": [runpod("gpu", id=ENDPOINT)],
    "manifests": {"wait_for_inputs": "50s", "max_attempts": 10},
    "reconcile": {"interval": "10s"},
    "triggers": [
        {
            "name": "bare",
            "pattern": f"{BARE_PREFIX}*.mp3",
            "max_attempts": 10,
            "manifest": {
                "operation": "transcribe",
                "model": "hear--bare",
                "path": "{stem}/",
                "formats": ["txt", "srt"],
            },
        }
    ],
}


@pytest.fixture
async def player(tmp_path: Path, there: Cloud) -> AsyncIterator[Player]:
    server = start_minio("minio", tmp_path / "minio")
    rng = random.Random(SEED + 2)
    drops = MinioDrops(admin_client(server), BUCKET)
    listener: Listener | None = None
    try:
        async with StoreProxy(server.host, rng).serving() as proxy, Receiver(rng).serving() as receiver:
            prepare(drops)
            listener = listener_of(tmp_path, server, proxy, there, receiver)
            endpoint = there.endpoint(ENDPOINT, workers_max=10)
            worked = tmp_path / "worked"
            workers = [there.work(endpoint, "telling", restart=True, HISTORY_LOG=str(worked)) for _ in range(3)]
            reader = Reader(drops, tmp_path / "state", there, ENDPOINT, worked)
            yield Player(server, drops, proxy, there, endpoint, workers, listener, receiver, reader, rng)
            for worker in workers:
                there.let_go(worker)
    finally:
        if listener:
            listener.close()
        servers.stop(server)


def prepare(drops: MinioDrops) -> None:
    drops.client.make_bucket(BUCKET)
    for key in (*MEDIA, PICTURE):
        drops.put(key, media_bytes(key))


def listener_of(folder: Path, server: Any, proxy: StoreProxy, there: Cloud, receiver: Receiver) -> Listener:
    config = {
        **CONFIG,
        "store": {**CONFIG["store"], "endpoint": proxy.endpoint},
        "runpod": {"api": there.provider.url, "management": there.provider.url},
        "state": str(folder / "state"),
        "callbacks": {"private_hosts": [receiver.host]},
    }
    environ = {
        "GPUDROP_S3_ACCESS_KEY": server.access_key,
        "GPUDROP_S3_SECRET_KEY": server.secret_key,
        "GPUDROP_RUNPOD_API_KEY": there.provider.api_key,
    }
    return Listener(folder, config, environ)


async def test_every_drop_ends_as_it_should(player: Player, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\nGPUDROP_SEED={SEED} GPUDROP_DROPS={DROPS}")
    drops = make_drops(random.Random(SEED), DROPS, SPAN_S, callbacks=player.receiver.url)
    player.listener.start()
    await player.play(drops, make_schedule(random.Random(SEED + 1), SPAN_S))
    await player.ended(drops, within_s=WITHIN_S)
    player.listener.stop()
    left = player.reader.all()
    problems = wrong(drops, left, player.puts, player.receiver.posts) + player.listener.defects()
    assert not problems, told(problems, drops, player)


def told(problems: list[str], drops: list[Drop], player: Player) -> str:
    """What is wrong, and the acts of the drops it is wrong with."""
    lines = [f"GPUDROP_SEED={SEED} GPUDROP_DROPS={DROPS}: {len(problems)} of {len(drops)}", *problems[:60]]
    for drop in drops:
        if any(problem.startswith(f"{drop.name}:") for problem in problems):
            acts = [f"{act.at:.2f} {'put' if act.data is not None else 'delete'} {act.key}" for act in drop.acts]
            lines.append(f"{drop.name}: {'; '.join(acts)}")
    return "\n".join([*lines, f"met by the store: {dict(player.proxy.met)}, logs: {player.listener.folder}"])
