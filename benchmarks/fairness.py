"""One drop beside a flood in another folder: when it is accepted, and when it is done, alone and then.

python benchmarks/fairness.py [folder] [minio] [--waiting 10000] [--bad 4000] [--big 80] [--references 9000]

The flood are manifests that name missing files, bad ones, and some with thousands of references, of which the last one
is missing, too: what is measured is the listener, and not a worker with more to do than it can. The drop is made
while they come, and again once all of them lie there. The listener and MinIO are processes of their own on this
machine, and share its cores with the work of the drop itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import obstore
from ground import ROOT, Listener, client_config, disk, keys_of, listening, minio, store_of
from obstore.store import LocalStore, S3Store
from rich.console import Console
from rich.table import Table

MEDIA = ROOT / "examples" / "samples" / "media"
CLIENTS = 8


@dataclass(frozen=True)
class Flood:
    """How many manifests of each kind, and how many references a big one has."""

    waiting: int
    bad: int
    big: int
    references: int

    def drops(self) -> list[tuple[str, bytes]]:
        """Manifests by key, the kinds mixed, in some folders below one."""
        images = json.dumps({"images": [*["picture.jpg"] * (self.references - 1), "not-there.jpg"]}).encode()
        kinds = [(self.big, images), (self.bad, b"operation: nonsense\n"), (self.waiting, b"audio: not-there.mp3\n")]
        found = [
            (i / count, f"flood/{i % 5}/{body[2:5].decode()}{i:05}.job.yaml", body)
            for count, body in kinds
            for i in range(count)
        ]
        return [(key, body) for _, key, body in sorted(found, key=lambda drop: drop[:2])]


@dataclass(frozen=True)
class Times:
    """Seconds since the drop had been written."""

    accepted: float
    done: float


@dataclass
class Bench:
    bucket: Any
    listener: Listener
    drops: int = 0

    async def drop(self) -> Times:
        """One small job in a folder of its own."""
        self.drops += 1
        key = f"other/{self.drops}.job.json"
        await obstore.put_async(self.bucket, key, b'{"video": "clip.mp4", "audio": "chord.ogg"}')
        began = time.time()
        said = await self.listener.until(lambda: self._over(key), key, pause_s=0.2)
        if "run_done" not in said:
            raise RuntimeError(f"{key} failed:\n{self.listener.text()[-5000:]}")
        return Times(said.get("run_accepted", said["run_done"]) - began, said["run_done"] - began)

    async def flood(self, drops: list[tuple[str, bytes]]) -> None:
        left = list(reversed(drops))

        async def client() -> None:
            while left:
                key, body = left.pop()
                await obstore.put_async(self.bucket, key, body)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    def _over(self, key: str) -> dict[str, float] | None:
        """When the listener said what of a drop, by event; None before its run has ended."""
        said: dict[str, float] = {}
        command = ["grep", "-F", f'"key": "{key}"', str(self.listener.log)]
        for line in subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines():
            entry = json.loads(line)
            said.setdefault(entry["event"], datetime.fromisoformat(entry["timestamp"]).timestamp())
        return said if {"run_done", "run_ended"} & said.keys() else None

    def count(self, event: str) -> int:
        command = ["grep", "-c", "-F", f'"event": "{event}"', str(self.listener.log)]
        return int(subprocess.run(command, capture_output=True, text=True, check=False).stdout or 0)


@asynccontextmanager
async def bench(kind: str) -> AsyncGenerator[Bench]:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(disk())
        bucket, config, keys = _minio(folder, stack) if kind == "minio" else _folder(folder)
        for name in ("clip.mp4", "chord.ogg"):
            await obstore.put_async(bucket, f"other/{name}", (MEDIA / name).read_bytes())
        for i in range(5):
            await obstore.put_async(bucket, f"flood/{i}/picture.jpg", (MEDIA / "dawn.jpg").read_bytes())
        config |= {"log": {"format": "json", "level": "debug"}}
        yield Bench(bucket, await stack.enter_async_context(listening(folder, config, ('"ready"',), **keys)))


def _folder(folder: Path) -> tuple[Any, dict[str, Any], dict[str, str]]:
    (folder / "drop").mkdir()
    return LocalStore(folder / "drop"), {"store": {"kind": "folder", "root": str(folder / "drop")}}, {}


def _minio(folder: Path, stack: AsyncExitStack) -> tuple[Any, dict[str, Any], dict[str, str]]:
    server = stack.enter_context(minio(folder, "bench"))
    bucket = S3Store("bench", config=client_config(server), client_options={"allow_http": True})
    return bucket, {"store": store_of(server, "bench")}, keys_of(server)


async def measure(kind: str, flood: Flood) -> list[tuple[str, str]]:
    async with bench(kind) as it:
        await it.drop()
        alone = [await it.drop() for _ in range(5)]
        memory = it.listener.memory_mb
        drops = flood.drops()
        began = time.time()
        flooding = asyncio.create_task(it.flood(drops))
        beside: list[Times] = []
        while not flooding.done():
            beside.append(await it.drop())
            await asyncio.sleep(0.5)
        put_s = time.time() - began
        beside.append(await it.drop())
        beside += [await it.drop() for _ in range(6)]
        lone = statistics.median(times.done for times in alone)
        return [
            ("alone: accepted after, done after", f"{_median(alone, 'accepted')} / {_median(alone, 'done')}"),
            ("beside the flood, median", f"{_median(beside, 'accepted')} / {_median(beside, 'done')}"),
            ("beside the flood, worst", f"{_worst(beside, 'accepted')} / {_worst(beside, 'done')}"),
            (
                "done, of its time alone: median, worst",
                f"{statistics.median(t.done for t in beside) / lone:.1f}x / {max(t.done for t in beside) / lone:.1f}x",
            ),
            ("drops measured beside it", str(len(beside))),
            ("manifests of the flood a second", f"{len(drops) / put_s:.0f}"),
            ("accepted by the end of the last drop", f"{it.count('run_accepted')} of {len(drops) + it.drops}"),
            ("memory before, at the end", f"{memory:.0f} MB / {it.listener.memory_mb:.0f} MB"),
        ]


def _median(times: list[Times], what: str) -> str:
    return f"{statistics.median(getattr(each, what) for each in times):.2f} s"


def _worst(times: list[Times], what: str) -> str:
    return f"{max(getattr(each, what) for each in times):.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="*", default=["folder", "minio"], choices=["folder", "minio"])
    parser.add_argument("--waiting", type=int, default=10_000)
    parser.add_argument("--bad", type=int, default=4000)
    parser.add_argument("--big", type=int, default=80)
    parser.add_argument("--references", type=int, default=9000)
    asked = parser.parse_args()
    flood = Flood(asked.waiting, asked.bad, asked.big, asked.references)
    for kind in asked.stores or ["folder", "minio"]:
        table = Table(title=f"{kind}: {flood.waiting} waiting, {flood.bad} bad, {flood.big} x {flood.references}")
        table.add_column("what")
        table.add_column("measured")
        for row in asyncio.run(measure(kind, flood)):
            table.add_row(*row)
        Console().print(table)


if __name__ == "__main__":
    main()
