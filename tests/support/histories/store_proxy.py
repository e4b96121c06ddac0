"""HTTP between everybody and one S3 server, which spoils requests as it is told. Signatures stay good: they cover the
Host that the client names, and that is passed on."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from support.histories.outages import StoreFault

_PIECE = 65536
_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Head:
    """The first lines of a message, as they came; `size` None: in chunks, or for ever."""

    raw: bytes
    first: tuple[str, str, str]
    fields: dict[str, str]

    @property
    def size(self) -> int | None:
        if "chunked" in self.fields.get("transfer-encoding", ""):
            return None
        return int(self.fields.get("content-length", "0"))


class StoreProxy:
    """`faults` are those in force now; `met` counts what they were used on, by way."""

    def __init__(self, target: str, rng: random.Random) -> None:
        """`target`: host:port of the server."""
        self._host, _, port = target.partition(":")
        self._port = int(port)
        self._rng = rng
        self.faults: list[StoreFault] = []
        self.met: Counter[str] = Counter()
        self.endpoint = ""
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def host(self) -> str:
        return self.endpoint.removeprefix("http://")

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[StoreProxy]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=2**20, backlog=512)
        self.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            self.reset_all()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset_all(self) -> None:
        """RST to every client, in the middle of whatever was being said."""
        for writer in list(self._clients):
            _reset(writer)

    async def settled(self) -> None:
        """Returns when nothing that was held back is still to arrive."""
        while late := [task for task in self._tasks if task.get_name() == "late"]:
            await asyncio.wait(late)

    def _spawn(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._spawn(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if any(fault.way == "away" for fault in self.faults):
            self.met["away"] += 1
            _reset(writer)
            return
        self._clients.add(writer)
        try:
            await _Exchange(self, reader, writer).run()
        except (OSError, asyncio.IncompleteReadError):
            _reset(writer)
        finally:
            self._clients.discard(writer)
            writer.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(_CONNECT_S):
            return await asyncio.open_connection(self._host, self._port, limit=2**20)

    def fault_of(self, head: _Head) -> StoreFault | None:
        """What this request meets."""
        method, target, _ = head.first
        parts = urlsplit(target)
        side = "workers" if "X-Amz-Signature=" in parts.query else "listener"
        for fault in self.faults:
            if fault.side not in ("all", side) or not unquote(parts.path).endswith(fault.suffix):
                continue
            if fault.way == "held" and method != "PUT":
                continue
            if self._rng.random() < fault.share:
                self.met[fault.way] += 1
                return fault
        return None

    async def late(self, head: bytes, body: bytes, seconds: float) -> bytes:
        """The answer to a request that is passed on after `seconds`, whoever waits for it."""
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def deliver() -> None:
            await asyncio.sleep(seconds)
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                from_server, to_server = await self.connect()
                to_server.write(head + body)
                answer = await _read_head(from_server)
                data = await from_server.readexactly(answer.size or 0)
                to_server.close()
                if not done.done():
                    done.set_result(answer.raw + data)
            done.cancel()

        self._spawn(asyncio.create_task(deliver(), name="late"))
        try:
            return await done
        except asyncio.CancelledError as e:
            if done.cancelled():
                raise ConnectionResetError from e
            raise


class _Exchange:
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(self, proxy: StoreProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self) -> None:
        try:
            while True:
                try:
                    head = await _read_head(self._reader)
                except asyncio.IncompleteReadError as e:
                    if e.partial:
                        raise
                    return
                await self._serve(head, self._proxy.fault_of(head))
        finally:
            if self._server:
                self._server[1].close()

    async def _serve(self, head: _Head, fault: StoreFault | None) -> None:
        match fault:
            case None:
                await self._pass(head)
            case StoreFault(way="away"):
                raise ConnectionResetError
            case StoreFault(way="refuse"):
                await _skip(self._reader, head)
                self._writer.write(_refusal(fault, head.first[0]))
                await self._writer.drain()
            case StoreFault(way="slow"):
                await asyncio.sleep(fault.seconds)
                await self._pass(head)
            case StoreFault(way="held"):
                body = await self._reader.readexactly(head.size or 0)
                self._writer.write(await self._proxy.late(head.raw, body, fault.seconds))
                await self._writer.drain()
            case _:
                await self._pass(head, cut=fault.way)
                raise ConnectionResetError

    async def _pass(self, head: _Head, *, cut: str = "") -> None:
        from_server, to_server = await self._connected()
        to_server.write(head.raw)
        if cut == "cut_request" and head.size:
            await _pump(self._reader, to_server, head.size // 2)
            return
        await _pump(self._reader, to_server, head.size)
        answer = await _read_head(from_server)
        while answer.first[1].startswith("1"):
            answer = await _read_head(from_server)
        if cut == "lost_answer":
            return
        self._writer.write(answer.raw)
        empty = head.first[0] == "HEAD" or answer.first[1] in ("204", "304")
        size = 0 if empty else answer.size
        if cut:
            await _pump(from_server, self._writer, (size or 0) // 2)
            return
        await _pump(from_server, self._writer, size)
        if "close" in answer.fields.get("connection", "").lower():
            raise ConnectionResetError

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._server is None or self._server[0].at_eof() or self._server[1].is_closing():
            self._server = await self._proxy.connect()
        return self._server


async def _read_head(reader: asyncio.StreamReader) -> _Head:
    raw = await reader.readuntil(b"\r\n\r\n")
    first, *lines = raw.decode("latin-1").rstrip().split("\r\n")
    method, target, rest = (*first.split(" ", 2), "", "")[:3]
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return _Head(raw, (method, target, rest), fields)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int | None) -> None:
    """`size` bytes from one to the other; None: chunks, until the last one."""
    if size is None:
        await _pump_chunks(reader, writer)
        return
    while size > 0:
        data = await reader.read(min(size, _PIECE))
        if not data:
            raise asyncio.IncompleteReadError(b"", size)
        writer.write(data)
        await writer.drain()
        size -= len(data)


async def _pump_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        writer.write(line + await reader.readexactly(size + 2))
        await writer.drain()
        if size == 0:
            return


async def _skip(reader: asyncio.StreamReader, head: _Head) -> None:
    await reader.readexactly(head.size or 0)


def _refusal(fault: StoreFault, method: str) -> bytes:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{fault.code}</Code><Message>-</Message></Error>'
    first = f"HTTP/1.1 {fault.status} {fault.code}\r\nContent-Type: application/xml\r\n"
    head = f"{first}Content-Length: {len(body)}\r\n\r\n".encode()
    return head if method == "HEAD" else head + body.encode()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None and not writer.is_closing():
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
