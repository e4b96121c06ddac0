"""The webhook server for RunPod's notices of ended jobs. A notice is not trusted: it only triggers an early poll."""

from __future__ import annotations

import asyncio
import hmac
import re
import uuid
from collections.abc import Callable

from aiohttp import web

from gpu_dispatch.net.server import HttpServer, ServerLimits
from manifests.errors import ConfigError


class WebhookHints:
    """Maps webhook names to the events that wake a job's poll.

    `url` is the webhook's public address with its secret; each job gets an address below it.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._waiting: dict[str, asyncio.Event] = {}

    def address(self, wake: asyncio.Event) -> tuple[str, str]:
        """Returns a webhook address for a new job and the name in it; `wake` is set when the webhook is called.

        The name is not the job's id: a job may end before its id is known.
        """
        name = uuid.uuid4().hex
        self._waiting[name] = wake
        return f"{self._url}/{name}", name

    def expect(self, name: str, wake: asyncio.Event) -> None:
        """Sets `wake` from now on when a notice names `name`, a webhook name or a job's id."""
        self._waiting[name] = wake

    def forget(self, *names: str) -> None:
        for name in names:
            self._waiting.pop(name, None)

    def notify(self, name: str) -> bool:
        """Wakes the job that waits under `name`; False when none does."""
        wake = self._waiting.get(name)
        if wake:
            wake.set()
        return wake is not None


_MOST_BYTES = 32 * 2**20
_EDGE_BYTES = 64 * 2**10
_READ_S = 30.0
_GRACE_S = 1.0
_LIMITS = ServerLimits(max_connections=512)
_PATH = re.compile(r"/(?P<secret>[^/]+)/(?P<name>[^/]+)")
_IDS = re.compile(rb'"id"\s*:\s*"([A-Za-z0-9_.:-]{1,200})"')


class WebhookServer:
    """Serves POST /{secret}/{name}: 200 where the secret is right, else 404.

    A body repeats the whole task and its result; it is read, so that RunPod counts it as delivered, but not parsed.
    `name` identifies the job. The id of a job that an earlier process sent is searched for at the body's beginning and
    end.
    """

    def __init__(
        self,
        hints: WebhookHints,
        *,
        host: str,
        port: int,
        secret: str,
        limits: ServerLimits = _LIMITS,
        count: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`count` is called with the reason whenever a connection is cut."""
        self._hints = hints
        self._host = host
        self._port = port
        self._secret = secret.encode()
        self._limits = limits
        self._count = count
        self._running: tuple[asyncio.Server, HttpServer] | None = None

    async def start(self) -> int:
        """Starts listening and returns the port. Raises ConfigError when the port cannot be bound."""
        server = HttpServer(self._answer, self._limits, self._count)
        try:
            listening = await asyncio.get_running_loop().create_server(server, self._host, self._port)
        except OSError as e:
            reason = e.strerror or type(e).__name__
            raise ConfigError(
                f"{self._host}:{self._port} cannot be listened on: {reason}.",
                hint="Choose another port for runpod.hints.",
                where="runpod.hints.port",
            ) from e
        self._running = listening, server
        return int(listening.sockets[0].getsockname()[1])

    async def close(self) -> None:
        running, self._running = self._running, None
        if running:
            listening, server = running
            listening.close()
            await server.close(_GRACE_S)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        match = _PATH.fullmatch(request.rel_url.raw_path)
        if not match or not self._secret or not hmac.compare_digest(match["secret"].encode(), self._secret):
            return web.Response(status=404)
        if request.method != "POST":
            return web.Response(status=405, headers={"Allow": "POST"})
        known = self._hints.notify(match["name"])
        edges = await _edges(request)
        if not known:
            for found in set(_IDS.findall(edges)):
                self._hints.notify(found.decode())
        return web.Response()


async def _edges(request: web.BaseRequest) -> bytes:
    """Returns the body's beginning and end; the rest is read and dropped, within `_MOST_BYTES` and `_READ_S`."""
    first, last, total = bytearray(), b"", 0
    try:
        async with asyncio.timeout(_READ_S):
            async for chunk in request.content.iter_any():
                total += len(chunk)
                if total > _MOST_BYTES:
                    break
                first += chunk[: max(0, _EDGE_BYTES - len(first))]
                last = (last + chunk)[-_EDGE_BYTES:]
    except (TimeoutError, web.RequestPayloadError):
        pass
    return bytes(first) + b"\n" + last
