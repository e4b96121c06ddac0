"""What links for jobs cost: a presigned one with the listener's own keys, beside temporary keys of each job from MinIO.

python benchmarks/links.py [jobs]     (default: 3000, what 3,000 drops an hour ask for in that hour)

MinIO is a process of its own on this machine, and shares its cores. Its user may do what docker/minio-policy.json says.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from ground import ROOT, minio
from minio import MinioAdmin
from minio.credentials import StaticProvider
from rich.console import Console
from rich.table import Table

from listener.config.credentials import AccessKeys
from listener.stores.base import JobObjects
from listener.stores.s3.clients import S3Settings, StsSettings
from listener.stores.s3.store import S3Store

BUCKET = "media"
AT_ONCE = 8
LIVES_S = 26_000


@dataclass(frozen=True)
class Cost:
    """Seconds of each job, of all of them, and of the server's processor; the server's memory grew by `grown` bytes."""

    each: list[float]
    whole: float
    server: float
    grown: int
    link: int


def objects(job: int, images: int) -> JobObjects:
    """A transcription's, or those of `images` clips."""
    marks = f".gpudrop/jobs/{secrets.token_hex(16)}-j0/1"
    reads = [(BUCKET, f"{marks}.{what}") for what in ("claim", "answer", "task")]
    writes = [(BUCKET, f"{marks}.{what}") for what in ("claim", "answer")]
    reads += [(BUCKET, f"channel/video {job}/audios/audio_{n}.mp3") for n in range(images or 1)]
    writes += [(BUCKET, f"channel/video {job}/clips/clip_{n}.mp4") for n in range(images)]
    return JobObjects(tuple(reads), tuple(writes))


async def signed(store: S3Store, job: int, images: int) -> int:
    """All links of one job; the length of one."""
    wanted = objects(job, images)
    links = await store.links(wanted, lifetime_s=LIVES_S)
    urls = [await links.sign("GET", *name) for name in wanted.reads] + [
        await links.sign("PUT", *name) for name in wanted.writes
    ]
    return len(urls[0])


async def measured(pid: int, jobs: int, one: Callable[[int], Awaitable[int]]) -> Cost:
    server = psutil.Process(pid)
    waiting = iter(range(jobs))
    each: list[float] = []
    length = 0

    async def work() -> None:
        nonlocal length
        for job in waiting:
            began = time.perf_counter()
            length = await one(job)
            each.append(time.perf_counter() - began)

    before, memory, began = sum(server.cpu_times()[:2]), server.memory_info().rss, time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    whole = time.perf_counter() - began
    return Cost(each, whole, sum(server.cpu_times()[:2]) - before, server.memory_info().rss - memory, length)


async def compare(server: Any, jobs: int, console: Console) -> None:
    admin = MinioAdmin(
        endpoint=server.host,
        credentials=StaticProvider(server.access_key, server.secret_key),
        region="us-east-1",
        secure=False,
    )
    admin.policy_add("gpudrop", policy=json.loads((ROOT / "docker/minio-policy.json").read_text("utf-8")))
    keys = AccessKeys("listener", secrets.token_hex(16))
    admin.user_add(keys.access_key, keys.secret_key)
    admin.policy_set("gpudrop", user=keys.access_key)
    table = Table("links of", "jobs", "p50 ms", "p99 ms", "jobs/s", "server CPU ms a job", "server RSS", "a link")
    for name, mode, count, images in (
        ("the listener's keys", "off", jobs, 0),
        ("temporary keys", "required", jobs, 0),
        ("temporary keys, 50 clips", "required", jobs // 30, 50),
    ):
        settings = S3Settings(server.endpoint, (BUCKET,), lambda: keys, sts=StsSettings(mode))  # type: ignore[arg-type]
        store = S3Store(settings)
        cost = await measured(server.pid, count, lambda job, store=store, images=images: signed(store, job, images))
        await store.close()
        cuts = statistics.quantiles(cost.each, n=100)
        table.add_row(
            name,
            f"{count:,}",
            f"{cuts[49] * 1e3:.1f}",
            f"{cuts[98] * 1e3:.1f}",
            f"{count / cost.whole:,.0f}",
            f"{cost.server / count * 1e3:.1f}",
            f"{cost.grown / 1e6:+.0f} MB",
            f"{cost.link:,} B",
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="?", type=int, default=3000)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory(prefix="gpudrop-links-") as folder, minio(Path(folder), BUCKET) as server:
        asyncio.run(compare(server, jobs, Console(width=140)))


if __name__ == "__main__":
    main()
