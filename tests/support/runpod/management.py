"""RunPod's management API v2: templates and endpoints, kept as its OpenAPI document of August 2026 describes them.

    async with account() as a:
        a.url                        # what `runpod.management` is set to; the key is a.api_key
        a.add_endpoint("theirs", …)  # as if made in the console
        a.calls                      # every request: op ("GET /templates", "PATCH /serverless"), path, body, status
        a.faults.on("POST /serverless", failing(500))

Requests are checked as strictly as the document says: unknown and ill-typed fields are answered 422.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from support.runpod.faults import Fault, Faults, suffer
from support.runpod.management_bodies import POOLS, EndpointBody, Problem, TemplateBody, Workers, checked

__all__ = ["API_KEY", "Fault", "ManagedAccount", "ManagementCall", "account"]

API_KEY = "rpa_MANAGEMENTKEY000000000000000000000000000"


@dataclass(frozen=True, slots=True)
class ManagementCall:
    op: str
    path: str
    body: Any
    headers: dict[str, str]
    status: int


class ManagedAccount:
    """`templates` and `endpoints` are the documents the API answers with, by id, in the order they were made."""

    def __init__(self) -> None:
        self.url = ""
        self.api_key = API_KEY
        self.templates: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.volumes = {"vol1"}
        self.faults = Faults()
        self.calls: list[ManagementCall] = []
        self._ids = itertools.count(1)

    @property
    def written(self) -> list[ManagementCall]:
        """The calls that meant to change something."""
        return [call for call in self.calls if not call.op.startswith("GET")]

    def add_endpoint(self, name: str, **fields: Any) -> str:
        """One that was made elsewhere; its id."""
        document = {
            "id": f"ep{next(self._ids)}",
            "name": name,
            "type": "QUEUE",
            "image": "someone/else:1",
            "args": "",
            "disk": 20,
            "ports": [],
            "env": {},
            "registry": None,
            "gpu": {"pools": ["ADA_24"], "count": 1, "allowedCudaVersions": [], "minCudaVersion": None},
            "workers": {"min": 0, "max": 3, "idleTimeout": 10},
            "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
            "dataCenterIds": [],
            "networkVolumes": [],
            "timeout": 300_000,
            "flashboot": "OFF",
            "createdAt": "2026-06-01T12:00:00Z",
        }
        if fields.get("gpu"):
            fields["gpu"] = document["gpu"] | fields["gpu"]
        document |= fields
        self.endpoints[document["id"]] = document
        return document["id"]

    def add_template(self, name: str, **fields: Any) -> str:
        document = {
            "id": f"tpl{next(self._ids)}",
            "name": name,
            "image": "someone/else:1",
            "args": "",
            "disk": 20,
            "mounts": {},
            "ports": [],
            "env": {},
            "registry": None,
            "serverless": True,
            "public": False,
            "category": "NVIDIA",
            "startSsh": False,
            "startJupyter": False,
            "allowedCudaVersions": [],
        }
        document |= fields
        self.templates[document["id"]] = document
        return document["id"]

    def make_template(self, data: Any) -> dict[str, Any]:
        body = checked(TemplateBody, data)
        if not body.name or not body.image:
            raise Problem(422, "Request validation failed.", ["$: name and image are required"])
        if body.name in [each["name"] for each in self.templates.values()]:
            raise Problem(400, "Template name must be unique.")
        fields = body.model_dump(exclude_none=True, exclude={"name"})
        return self.templates[self.add_template(body.name, **fields)]

    def change_template(self, id: str, data: Any) -> dict[str, Any]:
        body = checked(TemplateBody, data)
        return _patched(self.templates, id, body.model_dump(exclude_unset=True))

    def make_endpoint(self, data: Any) -> dict[str, Any]:
        body = checked(EndpointBody, data)
        if not body.name or not body.type or body.scaling is None:
            raise Problem(422, "Request validation failed.", ["$: name, type and scaling are required"])
        if body.gpu is None or body.gpu.pools is None:
            raise Problem(400, "specify exactly one of gpu or cpu")
        container = self._of_template(body)
        if not container.get("image") and not body.image:
            raise Problem(422, "Request validation failed.", ["$: image is required"])
        self._check(body)
        own = body.model_dump(exclude_none=True, exclude={"templateId", "name", "workers"})
        env = container.get("env", {}) | own.pop("env", {})
        workers = (body.workers or Workers()).model_dump()
        id = self.add_endpoint(body.name, **{**container, **own, "env": env, "workers": workers})
        return self.endpoints[id]

    def change_endpoint(self, id: str, data: Any) -> dict[str, Any]:
        body = checked(EndpointBody, data)
        self._check(body)
        fields = body.model_dump(exclude_unset=True)
        there = self.endpoints.get(id)
        if there and "workers" in fields:
            fields["workers"] = there["workers"] | fields["workers"]
        if there and "gpu" in fields:
            keep = {k: v for k, v in there["gpu"].items() if k != "excludedTypes" or "pools" not in fields["gpu"]}
            fields["gpu"] = keep | fields["gpu"]
        return _patched(self.endpoints, id, fields)

    def _of_template(self, body: EndpointBody) -> dict[str, Any]:
        if body.templateId is None:
            return {}
        template = self.templates.get(body.templateId)
        if template is None:
            raise Problem(404, "template not found")
        if not template["serverless"]:
            raise Problem(422, "template is not a serverless template")
        names = ("image", "args", "disk", "ports", "env", "registry")
        return {name: json.loads(json.dumps(template[name])) for name in names}

    def _check(self, body: EndpointBody) -> None:
        if body.gpu and (strange := set(body.gpu.pools or ()) - POOLS):
            raise Problem(400, f"unknown GPU pool {min(strange)}")
        if strange := set(body.networkVolumes or ()) - self.volumes:
            raise Problem(404, f"network volume {min(strange)} not found")
        for name, value in (body.env or {}).items():
            if not name.replace("_", "").isalnum():
                raise Problem(422, "Request validation failed.", [f"env: {name}={value} is not a valid variable"])


@asynccontextmanager
async def account() -> AsyncIterator[ManagedAccount]:
    managed = ManagedAccount()
    app = web.Application()
    app.router.add_route("*", "/v2/{what}", partial(_serve, managed))
    app.router.add_route("*", "/v2/{what}/{id}", partial(_serve, managed))
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    managed.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v2"
    try:
        yield managed
    finally:
        await runner.cleanup()


async def _serve(managed: ManagedAccount, request: web.Request) -> web.StreamResponse:
    op = f"{request.method} /{request.match_info['what']}"
    body = await request.json() if request.can_read_body else None

    async def answer() -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {managed.api_key}":
            return _problem(Problem(401, "invalid bearer token"))
        try:
            status, document = _answer(managed, op, request.match_info.get("id", ""), body)
        except Problem as e:
            return _problem(e)
        return web.json_response(document, status=status)

    fault = managed.faults.take(op, "")
    response: web.StreamResponse
    if fault:
        response, status = await suffer(fault, request, answer)
    else:
        response = await answer()
        status = response.status
    managed.calls.append(ManagementCall(op, request.path, body, dict(request.headers), status))
    return response


def _answer(managed: ManagedAccount, op: str, id: str, body: Any) -> tuple[int, Any]:
    match op:
        case "GET /templates":
            return 200, {"templates": list(managed.templates.values())}
        case "GET /serverless":
            return 200, {"endpoints": list(managed.endpoints.values())}
        case "POST /templates":
            return 201, managed.make_template(body)
        case "POST /serverless":
            return 201, managed.make_endpoint(body)
        case "PATCH /templates":
            return 200, managed.change_template(id, body)
        case "PATCH /serverless":
            return 200, managed.change_endpoint(id, body)
        case _:
            raise Problem(405, "method not allowed")


def _patched(documents: dict[str, dict[str, Any]], id: str, fields: dict[str, Any]) -> dict[str, Any]:
    if id not in documents:
        raise Problem(404, "resource not found")
    documents[id] |= fields
    return documents[id]


def _problem(problem: Problem) -> web.Response:
    return web.Response(
        status=problem.status, text=json.dumps(problem.document), content_type="application/problem+json"
    )
