"""Drops to paid jobs: how fast they are sent, what a thousand waiting jobs cost, and what the parts could do at most.

python benchmarks/dispatch.py [limits] [submit] [waiting]     (default: all three)

The listener, MinIO and the provider are processes of their own on this machine, and share its cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp
import obstore
from ground import (
    HANG_S,
    ROOT,
    Listener,
    client_config,
    disk,
    environment,
    keys_of,
    listening,
    minio,
    percentiles,
    store_of,
)
from obstore.store import S3Store as Bucket
from rich.console import Console
from rich.table import Table

MANIFEST = "operation: transcribe\naudio: audio.mp3\nmodel: tiny\npath: {path}/\n"
CLIENTS = 8
NEVER_S = 1e9


@dataclass
class Provider:
    """The provider's process, as benchmarks/provider.py says."""

    process: asyncio.subprocess.Process
    url: str
    key: str

    async def told(self) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        return json.loads(await self.process.stdout.readline())


@asynccontextmanager
async def provider(after_s: float) -> AsyncIterator[Provider]:
    """It completes every job after `after_s`."""
    command = [sys.executable, str(ROOT / "benchmarks" / "provider.py"), str(after_s)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(*command, **pipes, env=environment(), limit=2**26)
    try:
        assert process.stdout is not None
        said = json.loads(await process.stdout.readline())
        yield Provider(process, said["url"], said["key"])
    finally:
        process.kill()
        await process.wait()


@dataclass
class Bench:
    """MinIO, a provider, and `gpudrop run` between them."""

    bucket: Bucket
    provider: Provider
    listener: Listener
    dropped: dict[str, float] = field(default_factory=dict[str, float])

    async def drop_all(self, drops: int) -> None:
        left = list(range(drops))

        async def client() -> None:
            while left:
                name = f"{left.pop():05}"
                key = f"in/{name}.job.yaml"
                await obstore.put_async(self.bucket, key, MANIFEST.format(path=name).encode())
                self.dropped[key] = time.time()

        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    async def all_sent(self) -> dict[str, float]:
        """When each task was sent, once every drop has been."""
        sent: dict[str, float] = {}
        deadline = time.monotonic() + HANG_S
        while len(sent) < len(self.dropped):
            await asyncio.sleep(1)
            self.expect_no_failure()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(sent)} of {len(self.dropped)} jobs were sent within {HANG_S:.0f} s")
            sent = (await self.provider.told())["sent"]
        return sent

    async def all_done(self) -> dict[str, tuple[str, float]]:
        def look() -> dict[str, tuple[str, float]] | None:
            self.expect_no_failure()
            done = self.logged("run_done")
            return done if len(done) >= len(self.dropped) else None

        return await self.listener.until(look, "the runs", pause_s=1.0)

    def expect_no_failure(self) -> None:
        """Raises RuntimeError when a run has failed, or the listener has ended."""
        if failed := self.listener.entries('"run_ended"'):
            raise RuntimeError(f"{len(failed)} runs failed; the first: {failed[0]}")
        self.listener.expect_running()

    def logged(self, event: str) -> dict[str, tuple[str, float]]:
        """Run id to key and time, of every line about `event`."""
        return {
            entry["run_id"]: (entry["key"], datetime.fromisoformat(entry["timestamp"]).timestamp())
            for entry in self.listener.entries(f'"{event}"')
        }


@asynccontextmanager
async def bench(after_s: float, *, concurrent_runs: int) -> AsyncIterator[Bench]:
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(disk())
        server = stack.enter_context(minio(folder, "bench"))
        bucket = Bucket("bench", config=client_config(server), client_options={"allow_http": True})
        await obstore.put_async(bucket, "in/audio.mp3", b"not really audio")
        runpod = await stack.enter_async_context(provider(after_s))
        config = {
            "store": store_of(server, "bench"),
            "log": {"format": "json"},
            "concurrent_runs": concurrent_runs,
            "runpod": {"api": runpod.url},
            "endpoints": [{"kind": "runpod", "name": "bench", "id": "bench", "capabilities": ["whisper"]}],
        }
        keys = {**keys_of(server), "GPUDROP_RUNPOD_API_KEY": runpod.key}
        listener = await stack.enter_async_context(listening(folder, config, ('"ready"', "stream_connected"), **keys))
        yield Bench(bucket, runpod, listener)


async def submit(drops: int, after_s: float, limit: int) -> list[tuple[str, str]]:
    async with bench(after_s, concurrent_runs=limit) as it:
        began, busy = time.time(), it.listener.busy_s()
        await it.drop_all(drops)
        put = time.time() - began
        sent = await it.all_sent()
        taken, busy = max(sent.values()) - began, it.listener.busy_s() - busy
        accepted = it.logged("run_accepted")
        at = {accepted[task.rpartition("-j")[0]][0]: when for task, when in sent.items()}
        p50, p99 = percentiles([at[key] - when for key, when in it.dropped.items()])
        last = max(when for _, when in accepted.values()) - began
        rows = [
            ("PUTs a second", f"{drops / put:.0f}"),
            ("runs accepted a second", f"{drops / last:.0f}"),
            ("jobs sent a second", f"{drops / taken:.1f}"),
            ("from PUT returned to job sent, p50 / p99", f"{p50:.1f} s / {p99:.1f} s"),
            ("the listener, of one core, until the last was sent", f"{busy / taken:.0%}"),
            ("processor time of the listener a job", f"{1000 * busy / drops:.1f} ms"),
            ("memory of the listener", f"{it.listener.memory_mb:.0f} MB"),
        ]
        if after_s < NEVER_S:
            ended = max(when for _, when in (await it.all_done()).values()) - began
            rows.append(("runs done a second, to the last sidecar", f"{drops / ended:.1f}"))
            rows.append(("status calls", str((await it.provider.told())["calls"].get("status", 0))))
            rows.append(("memory of the listener at the end", f"{it.listener.memory_mb:.0f} MB"))
        return rows


async def waiting(jobs: int, settle_s: float, seconds: float) -> list[tuple[str, str]]:
    async with bench(NEVER_S, concurrent_runs=5000) as it:
        await it.drop_all(jobs)
        await it.all_sent()
        await asyncio.sleep(settle_s)
        before, busy, began = (await it.provider.told())["calls"], it.listener.busy_s(), time.time()
        await asyncio.sleep(seconds)
        taken, busy, after = time.time() - began, it.listener.busy_s() - busy, (await it.provider.told())["calls"]
        calls = after.get("status", 0) - before.get("status", 0)
        return [
            ("jobs in flight", str(jobs)),
            ("the listener, of one core", f"{busy / taken:.1%}"),
            ("memory of the listener", f"{it.listener.memory_mb:.0f} MB"),
            ("threads of the listener", str(it.listener.process.num_threads())),
            ("status calls a second", f"{calls / taken:.1f}"),
        ]


async def plain_posts(posts: int) -> float:
    """Jobs a second that a client without an engine sends to the same provider."""
    async with provider(NEVER_S) as runpod, aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {runpod.key}"}
        left = list(range(posts))

        async def client() -> None:
            while left:
                body = {"input": {"task": {"task_id": f"run-{left.pop()}-j0", "padding": "x" * 3000}}}
                async with http.post(f"{runpod.url}/bench/run", json=body, headers=headers) as answer:
                    answer.raise_for_status()
                    await answer.json()

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return posts / (time.perf_counter() - began)


ENGINE_ALONE = """
import asyncio, sys, time
from listener.runs.engine import WorkflowEngine, EngineSettings

class Story:
    left = int(sys.argv[2])
    over = asyncio.Event()
    async def run(self, request, steps):
        for name in ("one", "two"):
            await steps.once(name, int, self.nothing)
        self.left -= 1
        if not self.left:
            self.over.set()
    async def nothing(self):
        return 1

async def main():
    story = Story()
    engine = WorkflowEngine(EngineSettings(f"sqlite:///{sys.argv[1]}"), story)
    await engine.start()
    began, runs = time.perf_counter(), story.left
    gate = asyncio.Semaphore(8)
    async def submit(i):
        async with gate:
            await engine.submit(f"run-{i}", {"a": "b" * 500})
    await asyncio.gather(*(submit(i) for i in range(runs)))
    await asyncio.wait_for(story.over.wait(), 3600)
    print(runs / (time.perf_counter() - began))
    await engine.close()

asyncio.run(main())
"""


async def engine_alone(runs: int) -> float:
    """Workflows of two recorded steps a second."""
    with disk() as folder:
        command = [sys.executable, "-c", ENGINE_ALONE, f"{folder}/engine.sqlite", str(runs)]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, env=environment())
        out, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError("the engine alone failed")
        return float(out)


def show(title: str, rows: Sequence[tuple[str, str]]) -> None:
    table = Table("", "", title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=("limits", "submit", "waiting", []))
    parser.add_argument("--drops", type=int, default=3000)
    parser.add_argument("--after", type=float, default=20.0, help="seconds until a job is completed")
    parser.add_argument("--runs", type=int, default=3000, help="concurrent_runs while drops are sent")
    parser.add_argument("--jobs", type=int, default=1000, help="jobs in flight")
    parser.add_argument("--settle", type=float, default=30.0, help="seconds before waiting is measured")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds that waiting is measured")
    options = parser.parse_args()
    what = options.what or ["limits", "submit", "waiting"]
    if "limits" in what:
        plain, engine = asyncio.run(plain_posts(options.drops)), asyncio.run(engine_alone(options.drops))
        rows = [
            ("plain POSTs to the same provider", f"{plain:.0f}"),
            ("the engine, two recorded steps", f"{engine:.0f}"),
        ]
        show("What the parts could do, each alone, a second", rows)
    if "submit" in what:
        found = asyncio.run(submit(options.drops, options.after, options.runs))
        show(f"{options.drops} drops by {CLIENTS} clients, jobs done after {options.after:g} s", found)
    if "waiting" in what:
        show("Waiting", asyncio.run(waiting(options.jobs, options.settle, options.seconds)))


if __name__ == "__main__":
    main()
