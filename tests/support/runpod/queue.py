"""The provider: its API under /v2, and the side real SDK workers talk to.

    async with provider() as p:
        ep = p.endpoint("ep1")                       # url p.url (ends in /v2), key p.api_key
        async with ep.worker("real"):                # a real SDK worker process; "odd", "whisper-hub", …
            …                                        # submit through p.url; look at ep.jobs, p.calls
        p.faults.on("run", reset(taken=True))        # see support.runpod.faults
        p.faults.on("status", too_many("1"), times=5)
    p.endpoint("load", auto=Auto(0.2, lambda job: {…}))    # completes by itself, no process

`ep.job()` is the newest job; `job.taken`, `job.finished`, `job.executions` count what was paid for; `ep.paid` sums it.
`ep.lose(job)`, `expire`, `requeue`, `stick`, `regress`, `flap`, `confuse`, `mix_up`, and the attributes of Endpoint,
are the provider's own faults.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
from aiohttp import web

from support.runpod.endpoint import Endpoint
from support.runpod.faults import Fault, Faults, suffer
from support.runpod.jobs import Auto, Call, Execution, Job
from support.runpod.worker_side import WorkerSide

__all__ = [
    "DOCUMENTED_LIMITS",
    "Auto",
    "Call",
    "Endpoint",
    "Execution",
    "Fault",
    "Faults",
    "Job",
    "Provider",
    "provider",
]

API_KEY = "rpa_TESTKEY0000000000000000000000000000000000"
MAX_RUN_BYTES = 10 * 2**20
HOLD_S = 20.0
MIN_EXECUTION_MS = 5000
MAX_EXECUTION_MS = 7 * 24 * 3600 * 1000

DOCUMENTED_LIMITS: Mapping[str, int] = {"run": 1000, "status": 2000, "cancel": 100, "purge-queue": 2}
"""Requests in ten seconds, of one endpoint."""


class Provider:
    """`calls` has every request to the API, unless `recording` is off. `limits`: see DOCUMENTED_LIMITS; {}: none.

    `webhook_gap_s` passes between two posts to a webhook that did not answer 200; there are at most three.
    """

    def __init__(self, api_key: str = API_KEY) -> None:
        self.api_key = api_key
        self.url = ""
        self.calls: list[Call] = []
        self.recording = True
        self.faults = Faults()
        self.endpoints: dict[str, Endpoint] = {}
        self.limits: Mapping[str, int] = {}
        self.webhook_gap_s = 0.1
        self.limited = 0
        """Requests that were answered 429 because of `limits`."""
        self._recent: dict[tuple[str, str], deque[float]] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    def endpoint(self, id: str, *, workers_max: int = 3, auto: Auto | None = None) -> Endpoint:
        """A new endpoint."""
        made = Endpoint(id, self.url.removesuffix("/v2"), workers_max=workers_max, auto=auto, tell=self._tell)
        self.endpoints[id] = made
        return made

    def of(self, op: str) -> list[Call]:
        """The calls of one operation."""
        return [call for call in self.calls if call.op == op]

    def application(self) -> web.Application:
        app = web.Application(client_max_size=2**30)
        ops: list[tuple[str, str, Callable[[Endpoint, web.Request, Any], web.Response]]] = [
            ("POST", "run", self._run),
            ("GET", "status/{job}", self._status),
            ("POST", "cancel/{job}", self._cancel),
            ("POST", "retry/{job}", self._retry),
            ("GET", "health", self._health),
            ("POST", "purge-queue", self._purge),
        ]
        for method, path, serve in ops:
            app.router.add_route(method, f"/v2/{{endpoint}}/{path}", partial(self._api, path.split("/")[0], serve))
        WorkerSide(self.endpoints, self.faults, HOLD_S).add_to(app)
        return app

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[Provider]:
        runner = web.AppRunner(self.application(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, backlog=1024)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v2"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as self._session:
            try:
                yield self
            finally:
                for endpoint in self.endpoints.values():
                    endpoint.close()
                telling = list(self._telling)
                for task in telling:
                    task.cancel()
                await asyncio.gather(*telling, return_exceptions=True)
                await runner.cleanup()

    async def _api(
        self, op: str, serve: Callable[[Endpoint, web.Request, Any], web.Response], request: web.Request
    ) -> web.StreamResponse:
        endpoint_id = request.match_info["endpoint"]
        raw = await request.read()
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = None

        async def answer() -> web.Response:
            return self._answer(op, endpoint_id, request, raw, body, serve)

        job_id, headers = request.match_info.get("job", ""), dict(request.headers)
        call = Call(request.method, request.path, endpoint_id, op, job_id, body, headers, time.time())
        if self.recording:
            self.calls.append(call)
        fault = self.faults.take(op, endpoint_id)
        if fault is None:
            response: web.StreamResponse = await answer()
            call.answered = response.status
        else:
            response, call.answered = await suffer(fault, request, answer)
        return response

    def _answer(
        self,
        op: str,
        endpoint_id: str,
        request: web.Request,
        raw: bytes,
        body: Any,
        serve: Callable[[Endpoint, web.Request, Any], web.Response],
    ) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return web.Response(status=401)
        if self._too_fast(op, endpoint_id):
            self.limited += 1
            return _problem(429, "rate limit exceeded")
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is None:
            return web.Response(status=404, text="404 page not found")
        if len(raw) > MAX_RUN_BYTES:
            return _problem(413, "request body is too large")
        return serve(endpoint, request, body)

    def _too_fast(self, op: str, endpoint_id: str) -> bool:
        limit = self.limits.get(op)
        if limit is None:
            return False
        now = time.monotonic()
        recent = self._recent.setdefault((endpoint_id, op), deque())
        while recent and recent[0] <= now - 10.0:
            recent.popleft()
        if len(recent) >= limit:
            return True
        recent.append(now)
        return False

    def _run(self, endpoint: Endpoint, request: web.Request, body: Any) -> web.Response:
        del request
        if not isinstance(body, dict) or not isinstance(body.get("input"), dict):
            return _problem(400, "input is required")
        timeout_ms = (body.get("policy") or {}).get("executionTimeout", MIN_EXECUTION_MS)
        if not isinstance(timeout_ms, int) or not MIN_EXECUTION_MS <= timeout_ms <= MAX_EXECUTION_MS:
            return _problem(400, "executionTimeout is out of range")
        job = endpoint.submit(body)
        return web.json_response({"id": job.id, "status": job.status})

    def _status(self, endpoint: Endpoint, request: web.Request, body: Any) -> web.Response:
        del body
        job = _job(endpoint, request)
        return web.json_response(job.told()) if job else _no_job()

    def _cancel(self, endpoint: Endpoint, request: web.Request, body: Any) -> web.Response:
        del body
        job = _job(endpoint, request)
        if job is None:
            return _no_job()
        endpoint.cancel(job)
        return web.json_response({"id": job.id, "status": job.status})

    def _retry(self, endpoint: Endpoint, request: web.Request, body: Any) -> web.Response:
        del body
        job = _job(endpoint, request)
        if job is None:
            return _no_job()
        if not endpoint.retry(job):
            return _problem(400, f"a job that is {job.status} cannot be retried")
        return web.json_response({"id": job.id, "status": job.status})

    def _health(self, endpoint: Endpoint, request: web.Request, body: Any) -> web.Response:
        del request, body
        return web.json_response(endpoint.health())

    def _purge(self, endpoint: Endpoint, request: web.Request, body: Any) -> web.Response:
        del request, body
        return web.json_response({"removed": endpoint.purge(), "status": "completed"})

    def _tell(self, job: Job, copies: int) -> None:
        document = job.document() | {"input": job.input, "webhook": job.webhook}
        for _ in range(copies):
            task = asyncio.create_task(self._post(job, document))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _post(self, job: Job, document: Any) -> None:
        assert self._session and job.webhook
        for attempt in range(3):
            if attempt:
                await asyncio.sleep(self.webhook_gap_s)
            try:
                async with self._session.post(job.webhook, json=document) as answer:
                    job.webhooks.append(answer.status)
            except (aiohttp.ClientError, TimeoutError):
                job.webhooks.append(0)
            if job.webhooks[-1] == 200:
                return


def _job(endpoint: Endpoint, request: web.Request) -> Job | None:
    job = endpoint.jobs.get(request.match_info["job"])
    return None if job is None or job.gone else job


def _problem(status: int, error: str) -> web.Response:
    return web.json_response({"error": error}, status=status)


def _no_job() -> web.Response:
    return _problem(404, "job not found")


@asynccontextmanager
async def provider(*, api_key: str = API_KEY, port: int = 0) -> AsyncIterator[Provider]:
    """A provider on 127.0.0.1; `port` 0: a free one."""
    async with Provider(api_key).serving(port) as serving:
        yield serving
