"""Who is called back: takes most posts, refuses some for now, and remembers all of them."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

_REFUSED = 0.25
"""The share of posts that are answered 503."""


@dataclass(frozen=True, slots=True)
class Post:
    """`path` is the address's last part, `run_id` what the head says; `taken`: it was answered 200."""

    path: str
    run_id: str
    body: dict[str, Any]
    taken: bool


class Receiver:
    """`url` is what addresses begin with. `calm`: everything is taken."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.posts: list[Post] = []
        self.url = ""
        self.host = ""
        self.calm = False

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Receiver]:
        app = web.Application()
        app.router.add_post("/{name}", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.host = f"127.0.0.1:{runner.addresses[0][1]}"
        self.url = f"http://{self.host}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        taken = self.calm or self._rng.random() >= _REFUSED
        run_id = request.headers.get("X-Gpudrop-Run", "")
        self.posts.append(Post(request.match_info["name"], run_id, body, taken))
        return web.Response(status=200 if taken else 503, text="ok" if taken else "later")
