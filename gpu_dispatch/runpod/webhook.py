"""The server RunPod tells that a job has ended. What it says is never believed: it only makes us look sooner."""

from __future__ import annotations

import asyncio
import hmac
import re

from aiohttp import web

from gpu_dispatch.runpod.hints import Hints
from manifests.errors import ConfigError

_MOST_BYTES = 32 * 2**20
_EDGE_BYTES = 64 * 2**10
_READ_S = 30.0
_IDS = re.compile(rb'"id"\s*:\s*"([A-Za-z0-9_.:-]{1,200})"')


class HintsServer:
    """POST /{secret}/{name}: always 200 where the secret is right, else 404.

    A post repeats the whole task and its result; they are read, so that RunPod is content, and not parsed. `name` tells
    the job. For one that an earlier process sent, its id is looked for at the beginning and the end of the post.
    """

    def __init__(self, hints: Hints, *, host: str, port: int, secret: str) -> None:
        self._hints = hints
        self._host = host
        self._port = port
        self._secret = secret.encode()
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """The port it listens on. Raises ConfigError when that cannot be had."""
        app = web.Application(client_max_size=_MOST_BYTES)
        app.router.add_post("/{secret}/{name}", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as e:
            await runner.cleanup()
            reason = e.strerror or type(e).__name__
            raise ConfigError(
                f"{self._host}:{self._port} cannot be listened on: {reason}.",
                hint="Choose another port for runpod.hints.",
                where="runpod.hints.port",
            ) from e
        self._runner = runner
        return int(runner.addresses[0][1])

    async def close(self) -> None:
        runner, self._runner = self._runner, None
        if runner:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        if not self._secret or not hmac.compare_digest(request.match_info["secret"].encode(), self._secret):
            return web.Response(status=404)
        known = self._hints.tell(request.match_info["name"])
        edges = await _edges(request)
        if not known:
            for found in set(_IDS.findall(edges)):
                self._hints.tell(found.decode())
        return web.Response()


async def _edges(request: web.Request) -> bytes:
    """The beginning and the end of the body. The rest is read and dropped, up to a bound and for so long."""
    first, last, total = bytearray(), b"", 0
    try:
        async with asyncio.timeout(_READ_S):
            async for chunk in request.content.iter_any():
                total += len(chunk)
                if total > _MOST_BYTES:
                    break
                first += chunk[: max(0, _EDGE_BYTES - len(first))]
                last = (last + chunk)[-_EDGE_BYTES:]
    except TimeoutError:
        pass
    return bytes(first) + b"\n" + last
