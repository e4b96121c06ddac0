"""The way in: our listen reader beside minio's own, the inbox alone, and drops on a real MinIO until they are accepted.

python benchmarks/intake.py [readers] [inbox] [latency] [burst]     (default: all four)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import multiprocessing
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import obstore
from ground import (
    HANG_S,
    ROOT,
    Listener,
    client_config,
    disk,
    keys_of,
    listening,
    minio,
    percentiles,
    store_of,
)
from minio import Minio
from obstore.store import S3Store as Bucket
from rich.console import Console
from rich.table import Table

from listener.config.credentials import AccessKeys
from listener.events.event import ObjectCreated, ObjectEvent
from listener.intake.inbox import Backlog, DurableInbox, InboxServices
from listener.intake.source_status import SourceStatusRecorder
from listener.ledger.database import Database
from listener.ledger.inbox import InboxLedger
from listener.ledger.sources import SourceLedger
from listener.signals import ObjectWaiters
from listener.sources.base import Condition
from listener.sources.minio.request import MinioListenSettings
from listener.sources.minio.source import MinioListen
from listener.triggers.triggers import MANIFESTS, TriggerBook

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
        await asyncio.wait_for(inbox.full.wait(), HANG_S)
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
    with disk() as folder:
        database = Database(f"sqlite:///{folder}/ledger.sqlite")
        await database.open()
        source_status = SourceStatusRecorder(SourceLedger(database), "m1", time.time)
        book, ledger = TriggerBook([MANIFESTS]), InboxLedger(database, "m1")
        parts = InboxServices(
            ledger, frozenset(), book, ObjectWaiters(), source_status, Backlog(), clock=time.time, gap=lambda _: None
        )
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


@dataclass
class Bench:
    """MinIO, `gpudrop run` on it, and the raw stream beside it."""

    bucket: Bucket
    raw: Counting
    listener: Listener
    dropped: dict[str, float] = field(default_factory=dict[str, float])

    async def drop(self, key: str) -> None:
        await obstore.put_async(self.bucket, key, io.BytesIO(WAITING))
        self.dropped[key] = time.time()

    async def all_accepted(self) -> dict[str, float]:
        def look() -> dict[str, float] | None:
            entries = self.listener.entries('"run_accepted"')
            return {e["key"]: _moment(e) for e in entries} if len(entries) >= len(self.dropped) else None

        return await self.listener.until(look, "the runs")


def _moment(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["timestamp"]).timestamp()


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    with disk() as folder, minio(folder, "bench") as server:
        raw = Counting()
        listen = MinioListenSettings(server.endpoint, ("bench",), ping_s=1)
        source = MinioListen(listen, lambda: AccessKeys(server.access_key, server.secret_key))
        reading = asyncio.create_task(source.run(raw))
        config = {"store": store_of(server, "bench"), "log": {"format": "json"}}
        try:
            async with listening(folder, config, ("stream_connected",), **keys_of(server)) as listener:
                bucket = Bucket("bench", config=client_config(server), client_options={"allow_http": True})
                yield Bench(bucket, raw, listener)
        finally:
            reading.cancel()


async def latency(seconds: int) -> list[tuple[str, float, float]]:
    """One drop a second: p50 and p99 in ms from PUT returned to the raw stream's line, and to the run accepted."""
    async with bench() as it:
        for i in range(seconds):
            await it.drop(f"one/{i}.job.yaml")
            await asyncio.sleep(1)
        accepted = await it.all_accepted()
        came = it.raw.came
        return [
            ("the raw stream's line", *_percentiles_ms([came[k] - at for k, at in it.dropped.items()])),
            ("the run accepted", *_percentiles_ms([accepted[k] - at for k, at in it.dropped.items()])),
            ("between the two", *_percentiles_ms([accepted[k] - came[k] for k in it.dropped])),
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
        p50, p99 = _percentiles_ms([accepted[k] - at for k, at in it.dropped.items()])
        return [
            ("PUTs a second", f"{drops / put:.0f}"),
            ("runs accepted a second", f"{drops / taken:.0f}"),
            ("from PUT returned to run accepted, p50 / p99", f"{p50:.0f} ms / {p99:.0f} ms"),
            ("memory of the listener", f"{it.listener.memory_mb:.0f} MB"),
        ]


def _percentiles_ms(seconds: Sequence[float]) -> tuple[float, float]:
    p50, p99 = percentiles(seconds)
    return p50 * 1000, p99 * 1000


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
