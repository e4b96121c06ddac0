"""What can go wrong with one request, and when it shall."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

HTML = "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"
HOUR_S = 3600.0

Ending = Literal["", "reset", "reset_mid_body", "hang"]
Handler = Callable[[], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One request's misfortune.

    `slow_s` passes first. Without `status` and `ending` the request is served as usual then. Otherwise it is not
    served, unless `taken`: then it is, and only its answer is replaced. `ending` cuts the answer: "reset" sends none,
    "reset_mid_body" half of one, "hang" nothing while the connection stays open.
    """

    status: int | None = None
    body: str = ""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict[str, str])
    slow_s: float = 0.0
    ending: Ending = ""
    taken: bool = False


def too_many(retry_after: str = "") -> Fault:
    """429, with a Retry-After header when it is given."""
    headers = {"Retry-After": retry_after} if retry_after else {}
    return Fault(429, json.dumps({"error": "too many requests"}), headers=headers)


def failing(status: int = 500, *, taken: bool = False) -> Fault:
    return Fault(status, json.dumps({"error": "internal error"}), taken=taken)


def html(status: int = 502, *, taken: bool = False) -> Fault:
    """A gateway's page instead of JSON; with status 200 it even looks well."""
    return Fault(status, HTML, "text/html", taken=taken)


def empty(status: int = 200, *, taken: bool = False) -> Fault:
    return Fault(status, "", taken=taken)


def slow(seconds: float) -> Fault:
    """Served as usual, late."""
    return Fault(slow_s=seconds)


def reset(*, taken: bool = False) -> Fault:
    """The connection is reset, before the request was served or (`taken`) after."""
    return Fault(ending="reset", taken=taken)


def reset_mid_body() -> Fault:
    """Served, but only half of the answer arrives."""
    return Fault(ending="reset_mid_body", taken=True)


def hang(*, taken: bool = False) -> Fault:
    """No answer ever comes."""
    return Fault(ending="hang", taken=taken)


@dataclass(slots=True)
class _Rule:
    op: str
    fault: Fault
    left: int | None
    endpoint: str
    after: int


class Faults:
    """The faults to come. Rules for one `op` are used up in the order they were given."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []
        self.met: list[str] = []
        """The `op` of every request a fault was used on."""

    def on(self, op: str, fault: Fault, times: int | None = 1, *, endpoint: str = "", after: int = 0) -> None:
        """The next `times` requests of `op` meet `fault`; None: all. `after` of them are let through before.

        `op`: run, status, cancel, retry, health, purge-queue; of the workers' side job-take, job-done (an answer),
        job-progress (sent to the same address), job-stop, ping; "*" any of the API's. `endpoint` "": on every one.
        """
        self._rules.append(_Rule(op, fault, times, endpoint, after))

    def clear(self, op: str = "") -> None:
        """Forgets the faults of `op`, or all."""
        self._rules = [rule for rule in self._rules if op and rule.op != op]

    def take(self, op: str, endpoint: str) -> Fault | None:
        """The fault of this request, used up by asking."""
        for rule in self._rules:
            if rule.op not in (op, "*") or rule.endpoint not in ("", endpoint):
                continue
            if rule.op == "*" and (op.startswith("job-") or op == "ping"):
                continue
            if rule.after:
                rule.after -= 1
                continue
            if rule.left is None or rule.left > 0:
                rule.left = None if rule.left is None else rule.left - 1
                self.met.append(op)
                return rule.fault
        return None


async def suffer(fault: Fault, request: web.Request, serve: Handler) -> tuple[web.StreamResponse, int]:
    """The answer to a request that meets `fault`, and the status the client sees: 0 for none."""
    await asyncio.sleep(fault.slow_s)
    served = await serve() if fault.taken or (fault.status is None and not fault.ending) else None
    match fault.ending:
        case "reset":
            _reset(request)
            return web.Response(), 0
        case "hang":
            await asyncio.sleep(HOUR_S)
            return web.Response(), 0
        case "reset_mid_body":
            return await _half(request, served), 0
        case _:
            pass
    if fault.status is None and served is not None:
        return served, served.status
    status = fault.status or 500
    answer = web.Response(status=status, text=fault.body, content_type=fault.content_type, headers=fault.headers)
    return answer, status


async def _half(request: web.Request, served: web.StreamResponse | None) -> web.StreamResponse:
    body = served.body if isinstance(served, web.Response) and isinstance(served.body, bytes) else HTML.encode()
    answer = web.StreamResponse(status=200, headers={"Content-Type": "application/json"})
    answer.content_length = len(body)
    await answer.prepare(request)
    await answer.write(body[: len(body) // 2])
    _reset(request)
    return answer


def _reset(request: web.Request) -> None:
    """Ends the connection with RST, as a crashed gateway does, not with the politeness of FIN."""
    transport = request.transport
    if transport is None:
        return
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
