"""Drops to paid jobs: how fast they are sent, what a thousand waiting jobs cost, and what the parts could do at most.

python benchmarks/dispatch.py [limits] [submit] [waiting]     (default: all three)

The listener, MinIO and the provider are processes of their own on this machine, and share its cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import obstore
import psutil
import yaml
from minio import Minio
from obstore.store import S3Store as Bucket
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
MANIFEST = "operation: transcribe\naudio: audio.mp3\nmodel: tiny\npath: {path}/\n"
CLIENTS = 8
NEVER_S = 1e9


def load_servers() -> Any:
    sys.path.append(str(ROOT / "scripts"))
    spec = importlib.util.spec_from_file_location("bench_servers", ROOT / "scripts" / "servers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_servers"] = module
    spec.loader.exec_module(module)
    return module


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


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
    log: Path
    process: psutil.Process
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
        """When each task was sent, once every drop has been. Raises RuntimeError when a run has ended without it."""
        while True:
            sent: dict[str, float] = (await self.provider.told())["sent"]
            if len(sent) >= len(self.dropped):
                return sent
            if failed := self.logged("run_ended"):
                raise RuntimeError(f"{len(failed)} runs failed; see {self.log}")
            await asyncio.sleep(1)

    def logged(self, event: str) -> dict[str, tuple[str, float]]:
        """Run id to key and time, of every line about `event`."""
        found: dict[str, tuple[str, float]] = {}
        for line in self.log.read_text("utf-8").splitlines():
            if f'"{event}"' in line:
                entry = json.loads(line)
                found[entry["run_id"]] = entry["key"], datetime.fromisoformat(entry["timestamp"]).timestamp()
        return found

    def busy_s(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system

    @property
    def memory(self) -> str:
        return f"{self.process.memory_info().rss / 1e6:.0f} MB"


@asynccontextmanager
async def bench(after_s: float, *, concurrent_runs: int) -> AsyncIterator[Bench]:
    servers = load_servers()
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp"))))
        server = servers.start("minio", folder / "minio")
        stack.callback(servers.stop, server)
        Minio(server.host, server.access_key, server.secret_key, secure=False, region="us-east-1").make_bucket("bench")
        keys: Any = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
        s3: Any = {"endpoint": server.endpoint, "region": "us-east-1", **keys}
        bucket = Bucket("bench", config=s3, client_options={"allow_http": True})
        await obstore.put_async(bucket, "in/audio.mp3", b"not really audio")
        runpod = await stack.enter_async_context(provider(after_s))
        log, process = start_listener(folder, server, runpod, concurrent_runs)
        stack.callback(process.wait)
        stack.callback(process.kill)
        while '"ready"' not in (text := log.read_text("utf-8")) or "stream_connected" not in text:
            if process.poll() is not None:
                raise RuntimeError(f"the listener ended:\n{text}")
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)
        yield Bench(bucket, runpod, log, psutil.Process(process.pid))


def start_listener(folder: Path, server: Any, runpod: Provider, limit: int) -> tuple[Path, subprocess.Popen[bytes]]:
    config = {
        "store": {"kind": "s3", "endpoint": server.endpoint, "buckets": ["bench"]},
        "state": str(folder / "state"),
        "log": {"format": "json"},
        "concurrent_runs": limit,
        "runpod": {"api": runpod.url},
        "endpoints": [{"kind": "runpod", "name": "bench", "id": "bench", "capabilities": ["whisper"]}],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    log = folder / "log"
    environ = environment(
        GPUDROP_S3_ACCESS_KEY=server.access_key,
        GPUDROP_S3_SECRET_KEY=server.secret_key,
        GPUDROP_RUNPOD_API_KEY=runpod.key,
    )
    with log.open("wb") as out:
        command = [sys.executable, "-m", "listener", "run", "--config", str(folder / "config.yaml")]
        return log, subprocess.Popen(command, stderr=out, stdout=out, cwd=folder, env=environ)


async def submit(drops: int, after_s: float, limit: int) -> list[tuple[str, str]]:
    async with bench(after_s, concurrent_runs=limit) as it:
        began, busy = time.time(), it.busy_s()
        await it.drop_all(drops)
        put = time.time() - began
        sent = await it.all_sent()
        taken, busy = max(sent.values()) - began, it.busy_s() - busy
        accepted = it.logged("run_accepted")
        at = {accepted[task.rpartition("-j")[0]][0]: when for task, when in sent.items()}
        p50, p99 = _percentiles([at[key] - when for key, when in it.dropped.items()])
        last = max(when for _, when in accepted.values()) - began
        rows = [
            ("PUTs a second", f"{drops / put:.0f}"),
            ("runs accepted a second", f"{drops / last:.0f}"),
            ("jobs sent a second", f"{drops / taken:.1f}"),
            ("from PUT returned to job sent, p50 / p99", f"{p50:.1f} s / {p99:.1f} s"),
            ("the listener, of one core, until the last was sent", f"{busy / taken:.0%}"),
            ("processor time of the listener a job", f"{1000 * busy / drops:.1f} ms"),
            ("memory of the listener", it.memory),
        ]
        if after_s < NEVER_S:
            while len(done := it.logged("run_done")) < drops:
                await asyncio.sleep(1)
            ended = max(when for _, when in done.values()) - began
            rows.append(("runs done a second, to the last sidecar", f"{drops / ended:.1f}"))
            rows.append(("status calls", str((await it.provider.told())["calls"].get("status", 0))))
            rows.append(("memory of the listener at the end", it.memory))
        return rows


async def waiting(jobs: int, settle_s: float, seconds: float) -> list[tuple[str, str]]:
    async with bench(NEVER_S, concurrent_runs=5000) as it:
        await it.drop_all(jobs)
        await it.all_sent()
        await asyncio.sleep(settle_s)
        before, busy, began = (await it.provider.told())["calls"], it.busy_s(), time.time()
        await asyncio.sleep(seconds)
        taken, busy, after = time.time() - began, it.busy_s() - busy, (await it.provider.told())["calls"]
        calls = after.get("status", 0) - before.get("status", 0)
        return [
            ("jobs in flight", str(jobs)),
            ("the listener, of one core", f"{busy / taken:.1%}"),
            ("memory of the listener", it.memory),
            ("threads of the listener", str(it.process.num_threads())),
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
from listener.runs.engine import Engine, EngineSettings

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
    engine = Engine(EngineSettings(f"sqlite:///{sys.argv[1]}"), story)
    await engine.start()
    began, runs = time.perf_counter(), story.left
    gate = asyncio.Semaphore(8)
    async def submit(i):
        async with gate:
            await engine.submit(f"run-{i}", {"a": "b" * 500})
    await asyncio.gather(*(submit(i) for i in range(runs)))
    await story.over.wait()
    print(runs / (time.perf_counter() - began))
    await engine.close()

asyncio.run(main())
"""


async def engine_alone(runs: int) -> float:
    """Workflows of two recorded steps a second."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        command = [sys.executable, "-c", ENGINE_ALONE, f"{folder}/engine.sqlite", str(runs)]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, env=environment())
        out, _ = await process.communicate()
        return float(out)


def _percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """p50 and p99."""
    found = statistics.quantiles(seconds, n=100, method="inclusive")
    return found[49], found[98]


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
