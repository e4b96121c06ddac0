"""aiohttp's server for untrusted clients: header deadline, connection limit, no log of what was sent, graceful end.

aiohttp by itself has no deadline for headers and no limit on connections, and logs what it cannot parse, addresses
included. `web.Server` and `web.RequestHandler`, which this extends, are public names that few extend; tests that send
single bytes show a change.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar
from weakref import WeakSet

import structlog
from aiohttp import web

log: structlog.stdlib.BoundLogger = structlog.get_logger("gpu_dispatch.net")

_LINGER_S = 2.0
_WRITE_S = 0.2
_OWN_FILES = 256
"""Open files reserved for the rest of the program while clients hold connections."""

Answer = Callable[[web.BaseRequest], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The limits of one server."""

    header_timeout_s: float = 10.0
    idle_timeout_s: float = 120.0
    max_connections: int = 4096
    """It is lower where the process may open fewer files."""


class ServerConnection(web.RequestHandler):
    """One connection. The client has `header_timeout_s` to complete a header, and to take an answer."""

    __slots__ = ("_cutting", "_limit_s", "_server", "busy")

    def __init__(self, server: HttpServer, limits: ServerLimits) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # pyright: ignore[reportArgumentType] - aiohttp's own way to switch it off
            keepalive_timeout=limits.idle_timeout_s,
            lingering_time=_LINGER_S,
            auto_decompress=False,
        )
        self._server = server
        self._limit_s = limits.header_timeout_s
        self._cutting: asyncio.TimerHandle | None = None
        self.busy = False

    def begin(self) -> None:
        """Marks the connection as busy: a header is complete."""
        self._cancel_deadline()
        self.busy = True

    def finish(self) -> None:
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._server.is_full:
            self._server.count("too_many_connections")
            self._abort()
        else:
            self._start_deadline()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if data and not self.busy and self._cutting is None:
            self._start_deadline()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_deadline()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_deadline()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - the base class's signature
    ) -> web.StreamResponse:
        """Answers without aiohttp's log, which would show secrets that were sent; what is not HTTP is only counted."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        if status >= 500:
            log.error("post_failed", exc_info=exc)
        else:
            self._server.count("not_http")
        answer = web.Response(status=status)
        answer.force_close()
        return answer

    def _start_deadline(self) -> None:
        self._cancel_deadline()
        self._cutting = asyncio.get_running_loop().call_later(self._limit_s, self._on_deadline)

    def _cancel_deadline(self) -> None:
        if self._cutting:
            self._cutting.cancel()
            self._cutting = None

    def _on_deadline(self) -> None:
        self._cutting = None
        self._server.count("too_slow")
        self._abort()

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class HttpServer(web.Server):
    """A factory of connections for `loop.create_server`. `answer` gets every request, but nothing that is not HTTP.

    The servers of a process share equally the open files that its own work leaves.
    """

    _servers: ClassVar[WeakSet[HttpServer]] = WeakSet()

    def __init__(self, answer: Answer, limits: ServerLimits, count: Callable[[str], None]) -> None:
        super().__init__(self._handle)
        self._answer = answer
        self._limits = limits
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._ending = False
        self._open = 0
        self._busy = 0
        self.count = count
        self._servers.add(self)

    def __call__(self) -> web.RequestHandler:
        return ServerConnection(self, self._limits)

    @property
    def is_full(self) -> bool:
        return self._open > min(self._limits.max_connections, _files_left() // max(1, len(self._servers)))

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self._open += 1
        super().connection_made(handler, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self._open -= 1
        super().connection_lost(handler, exc)

    async def close(self, grace_s: float) -> None:
        """Closes idle connections at once, and the others when they are answered or after `grace_s` seconds."""
        self._ending = True
        self._servers.discard(self)
        await asyncio.sleep(0)
        for connection in self.connections:
            if isinstance(connection, ServerConnection) and not connection.busy:
                connection.force_close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._quiet.wait()
        await self.shutdown(_WRITE_S)

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        connection = request.protocol
        assert isinstance(connection, ServerConnection)
        connection.begin()
        self._busy += 1
        self._quiet.clear()
        try:
            answer = await self._answer(request)
        finally:
            connection.finish()
            self._busy -= 1
            if not self._busy:
                self._quiet.set()
        answer.headers["Server"] = "gpudrop"
        # An unread body would be taken for the next request's header.
        if self._ending or not request.content.is_eof():
            answer.force_close()
        return answer


def _files_left() -> int:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 2**31
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else max(soft - _OWN_FILES, soft // 2)
