"""The way in: our listen reader beside minio's own, the inbox alone, and drops on a real MinIO until they are accepted.

python benchmarks/intake.py [readers] [inbox] [latency] [burst]     (default: all four)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import io
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import obstore
import psutil
import yaml
from minio import Minio
from obstore.store import S3Store as Bucket
from rich.console import Console
from rich.table import Table

from listener.configuration.credentials import AccessKeys
from listener.events import ObjectCreated, ObjectEvent
from listener.intake.backlog import Backlog
from listener.intake.inbox import DurableInbox, InboxParts
from listener.intake.source_board import SourceBoard
from listener.ledger.database import Database
from listener.ledger.inbox import InboxLedger
from listener.ledger.sources import SourceLedger
from listener.signals import Arrivals
from listener.sources.base import Condition
from listener.sources.listen.source import MinioListen, MinioListenSettings
from listener.triggers import MANIFESTS, TriggerBook

ROOT = Path(__file__).parents[1]
RECORD = json.loads((ROOT / "tests/events/minio-listen-put.json").read_text())
BUCKET = RECORD["Records"][0]["s3"]["bucket"]["name"]
OURS, THEIRS = 20_000, 1_000
"""Events each reader gets: minio's own reads byte by byte."""
WAITING = b"audio: not-there.mp3"


class Counting:
    """An inbox that only counts, and notes when each key came."""

    def __init__(self, wanted: int = 0) -> None:
        self.came: dict[str, float] = {}
        self.n = 0
        self._wanted = wanted
        self.full = asyncio.Event()

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        now = time.time()
        self.n += len(events)
        for event in events:
            self.came.setdefault(event.key, now)
        if self._wanted and self.n >= self._wanted:
            self.full.set()

    def gap(self, source: str, reason: str) -> None: ...
    def report(self, source: str, condition: Condition) -> None: ...
    def count(self, source: str, what: str, n: int = 1) -> None: ...


def replay(port: int, events: int, ready: Any) -> None:
    """A server that sends `events` records to whoever asks for anything, as MinIO would, as fast as it is read."""
    lines = b"".join(json.dumps({"Records": [RECORD["Records"][0]]}).encode() + b"\n" for _ in range(events))
    server = socket.create_server(("127.0.0.1", port))
    ready.set()
    while True:
        client, _ = server.accept()
        threading.Thread(target=_serve, args=(client, lines), daemon=True).start()


def _serve(client: socket.socket, lines: bytes) -> None:
    with contextlib.suppress(OSError):
        client.recv(65536)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + lines)
        time.sleep(3600)


@contextmanager
def replaying(events: int) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ready = multiprocessing.Event()
    process = multiprocessing.Process(target=replay, args=(port, events, ready), daemon=True)
    process.start()
    ready.wait(30)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()


async def our_reader() -> float:
    """Events a second."""
    with replaying(OURS) as endpoint:
        inbox = Counting(OURS)
        source = MinioListen(MinioListenSettings(endpoint, (BUCKET,)), lambda: AccessKeys("k", "s"))
        began = time.perf_counter()
        task = asyncio.create_task(source.run(inbox))
        await inbox.full.wait()
        taken = time.perf_counter() - began
        task.cancel()
    return OURS / taken


def their_reader() -> float:
    with replaying(THEIRS) as endpoint:
        client = Minio(endpoint.removeprefix("http://"), "k", "s", secure=False, region="us-east-1")
        began = time.perf_counter()
        with client.listen_bucket_notification(BUCKET, events=("s3:ObjectCreated:*",)) as stream:
            for n, _ in enumerate(stream, 1):
                if n == THEIRS:
                    break
        return THEIRS / (time.perf_counter() - began)


async def inbox_alone() -> list[tuple[str, float]]:
    """Events a second into the durable inbox on SQLite, its file on disk."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        database = Database(f"sqlite:///{folder}/ledger.sqlite")
        await database.open()
        board = SourceBoard(SourceLedger(database), "m1", time.time)
        book, ledger = TriggerBook([MANIFESTS]), InboxLedger(database, "m1")
        parts = InboxParts(ledger, frozenset(), book, Arrivals(), board, Backlog(), clock=time.time, gap=lambda _: None)
        inbox = DurableInbox(parts)
        writing = asyncio.create_task(inbox.run())

        async def client(name: str, deliveries: int, events: int) -> None:
            for i in range(deliveries):
                keys = (f"{name}/{i}/{j}.job.json" for j in range(events))
                await inbox.accept([ObjectCreated("b", key, "s") for key in keys])

        figures: list[tuple[str, float]] = []
        for what, clients, deliveries, events in (
            ("batches of 500", 1, 40, 500),
            ("64 deliveries of one at a time", 64, 150, 1),
            ("one after the other", 1, 300, 1),
        ):
            began = time.perf_counter()
            await asyncio.gather(*(client(f"{what}{c}", deliveries, events) for c in range(clients)))
            figures.append((what, clients * deliveries * events / (time.perf_counter() - began)))
        writing.cancel()
        await database.close()
    return figures


def load_servers() -> Any:
    sys.path.append(str(ROOT / "scripts"))
    spec = importlib.util.spec_from_file_location("bench_servers", ROOT / "scripts" / "servers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_servers"] = module
    spec.loader.exec_module(module)
    return module


@dataclass
class Bench:
    """MinIO, `gpudrop run` on it, and the raw stream beside it."""

    bucket: Bucket
    raw: Counting
    log: Path
    process: subprocess.Popen[bytes]
    dropped: dict[str, float] = field(default_factory=dict[str, float])

    async def drop(self, key: str) -> None:
        await obstore.put_async(self.bucket, key, io.BytesIO(WAITING))
        self.dropped[key] = time.time()

    def accepted(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for line in self.log.read_text("utf-8").splitlines():
            if '"run_accepted"' in line:
                entry = json.loads(line)
                found[entry["key"]] = datetime.fromisoformat(entry["timestamp"]).timestamp()
        return found

    async def all_accepted(self) -> dict[str, float]:
        while len(found := await asyncio.to_thread(self.accepted)) < len(self.dropped):
            await asyncio.sleep(0.5)
        return found


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    servers = load_servers()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as name:
        folder = Path(name)
        server = servers.start("minio", folder / "minio")
        keys = {"GPUDROP_S3_ACCESS_KEY": server.access_key, "GPUDROP_S3_SECRET_KEY": server.secret_key}
        Minio(server.host, server.access_key, server.secret_key, secure=False, region="us-east-1").make_bucket("bench")
        store = {"kind": "s3", "endpoint": server.endpoint, "buckets": ["bench"]}
        config = {"store": store, "state": str(folder / "state"), "log": {"format": "json"}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        log = folder / "log"
        with log.open("wb") as out:
            command = [sys.executable, "-m", "listener", "run", "--config", str(folder / "config.yaml")]
            environ = {**os.environ, **keys, "PYTHONPATH": str(ROOT)}
            process = subprocess.Popen(command, stderr=out, cwd=folder, env=environ)
        raw = Counting()
        listen = MinioListenSettings(server.endpoint, ("bench",), ping_s=1)
        source = MinioListen(listen, lambda: AccessKeys(server.access_key, server.secret_key))
        reading = asyncio.create_task(source.run(raw))
        try:
            while log.read_text("utf-8").count("stream_connected") < 1:
                await asyncio.sleep(0.1)
            await asyncio.sleep(3)
            config_s3: Any = {
                "endpoint": server.endpoint,
                "access_key_id": server.access_key,
                "secret_access_key": server.secret_key,
                "region": "us-east-1",
            }
            yield Bench(Bucket("bench", config=config_s3, client_options={"allow_http": True}), raw, log, process)
        finally:
            reading.cancel()
            process.kill()
            servers.stop(server)


async def latency(seconds: int) -> list[tuple[str, float, float]]:
    """One drop a second: p50 and p99 in ms from PUT returned to the raw stream's line, and to the run accepted."""
    async with bench() as it:
        for i in range(seconds):
            await it.drop(f"one/{i}.job.yaml")
            await asyncio.sleep(1)
        accepted = await it.all_accepted()
        came = it.raw.came
        return [
            ("the raw stream's line", *_percentiles([came[k] - at for k, at in it.dropped.items()])),
            ("the run accepted", *_percentiles([accepted[k] - at for k, at in it.dropped.items()])),
            ("between the two", *_percentiles([accepted[k] - came[k] for k in it.dropped])),
        ]


async def burst(drops: int, clients: int) -> list[tuple[str, str]]:
    async with bench() as it:
        left = list(range(drops))
        began = time.time()

        async def client() -> None:
            while left:
                await it.drop(f"burst/{left.pop():05}.job.yaml")

        await asyncio.gather(*(client() for _ in range(clients)))
        put = time.time() - began
        accepted = await it.all_accepted()
        taken = max(accepted.values()) - began
        p50, p99 = _percentiles([accepted[k] - at for k, at in it.dropped.items()])
        memory = psutil.Process(it.process.pid).memory_info().rss / 1e6
        return [
            ("PUTs a second", f"{drops / put:.0f}"),
            ("runs accepted a second", f"{drops / taken:.0f}"),
            ("from PUT returned to run accepted, p50 / p99", f"{p50:.0f} ms / {p99:.0f} ms"),
            ("memory of the listener", f"{memory:.0f} MB"),
        ]


def _percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """p50 and p99, in milliseconds."""
    found = statistics.quantiles(seconds, n=100, method="inclusive")
    return found[49] * 1000, found[98] * 1000


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=("readers", "inbox", "latency", "burst", []))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--drops", type=int, default=10_000)
    options = parser.parse_args()
    what = options.what or ["readers", "inbox", "latency", "burst"]
    if "readers" in what:
        ours, theirs = asyncio.run(our_reader()), their_reader()
        rows = [("gpudrop", f"{ours:.0f}", f"{ours / theirs:.0f} x"), ("minio's own", f"{theirs:.0f}", "1 x")]
        show("Reading one listen stream", ("reader", "events a second", ""), rows)
    if "inbox" in what:
        rows = [(name, f"{rate:.0f}") for name, rate in asyncio.run(inbox_alone())]
        show("Into the durable inbox, SQLite", ("deliveries", "events a second"), rows)
    if "latency" in what:
        found = asyncio.run(latency(options.seconds))
        rows = [(name, f"{p50:.1f}", f"{p99:.1f}") for name, p50, p99 in found]
        show("One drop a second, after PUT returned", ("", "p50 ms", "p99 ms"), rows)
    if "burst" in what:
        show(f"{options.drops} drops by 8 clients", ("", ""), asyncio.run(burst(options.drops, 8)))


if __name__ == "__main__":
    main()
