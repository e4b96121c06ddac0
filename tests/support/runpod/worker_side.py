"""The side of the provider that SDK workers talk to: work, stops, progress, answers, heartbeats."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from aiohttp import web

from support.runpod.endpoint import Endpoint
from support.runpod.faults import Faults, suffer

PATH = "/workers/{endpoint}/{op:job-take|job-take-batch|job-stop|job-done|job-stream|ping}/{worker}"


class WorkerSide:
    """`hold_s` is how long a question for work or for stops is held open."""

    def __init__(self, endpoints: Mapping[str, Endpoint], faults: Faults, hold_s: float) -> None:
        self._endpoints = endpoints
        self._faults = faults
        self._hold_s = hold_s

    def add_to(self, app: web.Application) -> None:
        for path in (PATH, PATH + "/{job}"):
            app.router.add_route("*", path, self._serve)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        op = request.match_info["op"].removesuffix("-batch")
        endpoint = self._endpoints.get(request.match_info["endpoint"])
        if endpoint is None:
            return web.Response(status=404)
        serve: dict[str, Callable[[Endpoint, web.Request], Awaitable[web.Response]]] = {
            "job-take": self._take,
            "job-stop": self._stops,
            "job-done": self._done,
            "job-stream": self._stream,
            "ping": self._ping,
        }
        # The SDK sends progress and answers to one address.
        told = "job-progress" if op == "job-done" and (await _body(request)).get("status") == "IN_PROGRESS" else op
        fault = self._faults.take(told, endpoint.id)
        if fault is None:
            return await serve[op](endpoint, request)
        return (await suffer(fault, request, partial(serve[op], endpoint, request)))[0]

    async def _take(self, endpoint: Endpoint, request: web.Request) -> web.Response:
        def hung_up() -> bool:
            return request.transport is None or request.transport.is_closing()

        count = int(request.query.get("batch_size", "1"))
        jobs = await endpoint.take(request.match_info["worker"], count, self._hold_s, hung_up)
        if not jobs:
            return web.Response(status=204)
        found = [{"id": job.id, "input": job.input, "webhook": job.webhook} for job in jobs]
        return web.json_response(found if request.match_info["op"] == "job-take-batch" else found[0])

    async def _stops(self, endpoint: Endpoint, request: web.Request) -> web.Response:
        ids = await endpoint.stops(request.match_info["worker"], self._hold_s)
        return web.json_response({"jobsToStop": ids}) if ids else web.Response(status=204)

    async def _done(self, endpoint: Endpoint, request: web.Request) -> web.Response:
        endpoint.report(request.match_info["worker"], request.match_info["job"], await _body(request))
        return web.Response(text="ok")

    async def _stream(self, endpoint: Endpoint, request: web.Request) -> web.Response:
        del endpoint
        await request.read()
        return web.Response(text="ok")

    async def _ping(self, endpoint: Endpoint, request: web.Request) -> web.Response:
        endpoint.pings.append((request.match_info["worker"], request.query.get("job_id", "")))
        return web.Response()


async def _body(request: web.Request) -> dict[str, Any]:
    """The SDK calls its JSON a form; read as one, it would be torn."""
    return json.loads(await request.read())
