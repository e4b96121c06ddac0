"""A store behind a proxy that answers in its place: refusals as S3 servers send them, requests that are kept waiting.

    with store_proxy(minio_server) as proxy:
        proxy.hold("PUT", "a.done.json")       # whoever asks so waits from now on; proxy.held tells who does
        with proxy.refusing(CLOCK):            # all that waits and all that comes is refused
            …
        proxy.release()

Signatures hold: the host that was signed for is passed on. It has a thread and a loop of its own.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from support.deadlines import HANG_S

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"})


@dataclass(frozen=True)
class Refusal:
    """`more` are elements beside code and message. Without a `code` the connection is cut instead."""

    status: int = 0
    code: str = ""
    more: str = ""

    def answer(self, request: web.Request) -> web.Response:
        text = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{self.code}</Code><Message>refused</Message>'
            f"{self.more}<Resource>{request.path}</Resource></Error>"
        )
        body = b"" if request.method == "HEAD" else text.encode()
        return web.Response(status=self.status, body=body, content_type="application/xml")


CUT = Refusal()
DENIED = Refusal(403, "AccessDenied")
NO_KEY = Refusal(403, "InvalidAccessKeyId")
CLOCK = Refusal(
    403,
    "RequestTimeTooSkewed",
    "<RequestTime>20260102T030405Z</RequestTime><ServerTime>2026-01-02T04:04:06Z</ServerTime>",
)
TIMEOUT = Refusal(400, "RequestTimeout")
INCOMPLETE = Refusal(400, "IncompleteBody")
CONFLICT = Refusal(409, "OperationAborted")
CLIENT_GONE = Refusal(499, "ClientDisconnected")
NO_BUCKET = Refusal(404, "NoSuchBucket")
NO_CONDITIONS = Refusal(501, "NotImplemented")
SLOW_DOWN = Refusal(503, "SlowDown")

Match = Callable[[str, str], bool]
"""Method and key."""


def always(method: str, key: str) -> bool:
    del method, key
    return True


class StoreProxy:
    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.endpoint = ""
        self.refused: Counter[str] = Counter()
        """Refused requests by "METHOD key"."""
        self.takes_conditions = True
        """Without: writes that carry one are refused, as servers do that know none."""
        self.held: set[str] = set()
        """Requests that are kept waiting now, as "METHOD key"."""
        self.cut_once: Literal["before", "after"] | None = None
        """The next conditional write's connection is cut before it is passed on, or before it is answered."""
        self._refusal: tuple[Refusal, Match] | None = None
        self._holds: list[re.Pattern[str]] = []
        self._go = asyncio.Event()
        self._go.set()

    def hold(self, method: str, key: str) -> None:
        """Keeps requests waiting whose "METHOD key" matches this expression, until `release` or a refusal."""
        self._holds.append(re.compile(f"{method} {key}"))

    def release(self) -> None:
        self._holds.clear()
        self._wake()

    @contextmanager
    def refusing(self, refusal: Refusal, match: Match = always) -> Generator[None]:
        self._refusal = (refusal, match)
        self.release()
        try:
            yield
        finally:
            self._refusal = None

    def waits(self, what: str) -> bool:
        """Whether a request whose "METHOD key" matches the expression `what` is kept waiting."""
        return any(re.match(what, each) for each in tuple(self.held))

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._go.set)

    async def serve(self, ready: Future[StoreProxy], done: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as session:
            self._session = session
            runner = web.ServerRunner(web.Server(self._answer), handle_signals=False, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
            self.endpoint = f"http://127.0.0.1:{port}"
            ready.set_result(self)
            await asyncio.to_thread(done.wait)
            self.release()
            await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        key = unquote(URL(request.raw_path, encoded=True).raw_path.lstrip("/").partition("/")[2])
        if any(pattern.match(f"{request.method} {key}") for pattern in self._holds):
            await self._kept_waiting(f"{request.method} {key}")
        conditional = bool({"If-Match", "If-None-Match"} & set(request.headers))
        if conditional and self.cut_once:
            if self.cut_once == "after":
                async with self._upstream(request, await request.read()) as answer:
                    await answer.read()
            self.cut_once = None
            return _cut(request)
        if not self.takes_conditions and conditional:
            self.refused[f"{request.method} {key}"] += 1
            await request.read()
            return NO_CONDITIONS.answer(request)  # type: ignore[arg-type]
        refusal = self._refusal
        if refusal and refusal[1](request.method, key):
            self.refused[f"{request.method} {key}"] += 1
            if not refusal[0].code:
                return _cut(request)
            try:
                await request.read()
            except ConnectionError:
                return _cut(request)
            return refusal[0].answer(request)  # type: ignore[arg-type]
        return await self._passed_on(request)

    async def _kept_waiting(self, what: str) -> None:
        self.held.add(what)
        self._go.clear()
        try:
            async with asyncio.timeout(HANG_S):
                await self._go.wait()
        finally:
            self.held.discard(what)

    async def _passed_on(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            async with self._upstream(request, await request.read()) as answer:
                return await self._streamed(request, answer)
        except (aiohttp.ClientError, ConnectionError):
            return _cut(request)

    def _upstream(self, request: web.BaseRequest, body: bytes) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._session.request(
            request.method,
            URL(self.upstream + request.raw_path, encoded=True),
            headers=CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP),
            data=body or None,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def _streamed(self, request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                response.headers.add(name, value)
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


def _cut(request: web.BaseRequest) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)


@contextmanager
def store_proxy(server: Any) -> Generator[StoreProxy]:
    """A proxy before `server`, a `scripts.servers.Server`."""
    ready: Future[StoreProxy] = Future()
    done = threading.Event()

    async def serve() -> None:
        try:
            await StoreProxy(server.endpoint).serve(ready, done)
        except BaseException as e:
            if not ready.done():
                ready.set_exception(e)
            raise

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="store proxy")
    thread.start()
    try:
        yield ready.result(HANG_S)
    finally:
        done.set()
        thread.join(HANG_S)
