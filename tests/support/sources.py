"""An inbox that remembers, and networks that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from listener.events.event import ObjectCreated, ObjectEvent, ObjectRemoved
from listener.sources.base import Condition, EventSource
from manifests.errors import StoreUnavailable
from support.deadlines import HANG_S


class Recorder:
    """An inbox that keeps everything, also what sources report and count.

    The first `failures` deliveries are refused. `on_gap` is told of gaps too.
    """

    def __init__(self, *, failures: int = 0, on_gap: Callable[[str], None] | None = None) -> None:
        self.events: list[ObjectEvent] = []
        self.batches: list[int] = []
        self.gaps: list[str] = []
        self.refused = 0
        self.conditions: list[Condition] = []
        self.counts: Counter[str] = Counter()
        self._failures = failures
        self._on_gap = on_gap
        self._changed = asyncio.Event()

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        if self.refused < self._failures:
            self.refused += 1
            self._changed.set()
            raise StoreUnavailable("The ledger is away.")
        self.events += events
        self.batches.append(len(events))
        self._changed.set()

    def gap(self, source: str, reason: str) -> None:
        self.gaps.append(f"{source}: {reason}")
        if self._on_gap:
            self._on_gap(reason)
        self._changed.set()

    def report(self, source: str, condition: Condition) -> None:
        if not self.conditions or self.conditions[-1] != condition:
            self.conditions.append(condition)
        self._changed.set()

    def count(self, source: str, what: str, n: int = 1) -> None:
        self.counts[what] += n
        self._changed.set()

    @property
    def created(self) -> Counter[str]:
        return Counter(event.key for event in self.events if isinstance(event, ObjectCreated))

    @property
    def removed(self) -> Counter[str]:
        return Counter(event.key for event in self.events if isinstance(event, ObjectRemoved))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(HANG_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def running(inbox: Recorder, *sources: EventSource) -> AsyncIterator[None]:
    """The sources at work; a source that ends by itself is an error."""
    async with asyncio.timeout(HANG_S * 2), asyncio.TaskGroup() as group:
        tasks = [group.create_task(_endless(source, inbox)) for source in sources]
        yield
        for task in tasks:
            task.cancel()


async def _endless(source: EventSource, inbox: Recorder) -> None:
    await source.run(inbox)
    raise AssertionError(f"{source.name} ended")


class Proxy:
    """TCP between a client and `target` ("host:port") that can fall silent, and cut connections as a cable would.

    In mode "silent" it takes what clients say and passes nothing on.
    """

    def __init__(self, target: str) -> None:
        self._host, _, port = target.partition(":")
        self._port = int(port)
        self.mode: Literal["pass", "silent"] = "pass"
        self.connections = 0
        self.passed = 0
        """Bytes that came from the server."""
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.endpoint = ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            self.reset_all()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset_all(self) -> None:
        """RST to every client, in the middle of whatever was being said."""
        for writer in list(self._open):
            _reset(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.connections += 1
        self._open.add(writer)
        try:
            if self.mode == "silent":
                while await reader.read(65536):
                    pass
            else:
                await self._pass(reader, writer)
        except OSError:
            pass
        finally:
            self._open.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self._host, self._port)

        async def up() -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    to_server.write(data)
                    await to_server.drain()

        sending = asyncio.create_task(up())
        try:
            while data := await from_server.read(65536):
                self.passed += len(data)
                writer.write(data)
                await writer.drain()
        finally:
            sending.cancel()
            to_server.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def answering(*parts: bytes) -> AsyncIterator[str]:
    """A server that sends `parts` to whoever asks for anything, then holds the connection; its endpoint."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.01)
            await reader.read()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
