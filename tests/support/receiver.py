"""A user's system that waits for callbacks, with the faults such systems have."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from support.deadlines import HANG_S


@dataclass(frozen=True)
class Answer:
    """`fault`: "hang" says nothing until the receiver is let go, "reset" cuts the connection."""

    status: int = 200
    body: bytes = b"ok"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    fault: str = ""


PAGE = Answer(200, b"<!DOCTYPE html>\n<html><head><title>n8n</title></head></html>", {"Content-Type": "text/html"})
RUNNING = Answer(409, b'{"message":"The execution \\"7\\" is running already."}')
FINISHED = Answer(409, b'{"message":"The execution \\"7\\" has finished already."}')


@dataclass(frozen=True)
class Heard:
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Receiver:
    """Answers with `answers` in turn, then with `otherwise`."""

    answers: list[Answer] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    otherwise: Answer = Answer()
    port: int = 0
    let_go: threading.Event = field(default_factory=threading.Event)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}/webhook"

    def bodies(self) -> list[bytes]:
        return [each.body for each in self.heard]


@contextmanager
def listening() -> Iterator[Receiver]:
    known = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            known.heard.append(Heard(dict(self.headers), body))
            answer = known.answers.pop(0) if known.answers else known.otherwise
            if answer.fault == "hang":
                known.let_go.wait(HANG_S)
            if answer.fault:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                return
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError, ValueError):
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    known.port = server.server_address[1]
    thread = threading.Thread(target=lambda: server.serve_forever(0.05), daemon=True)
    thread.start()
    try:
        yield known
    finally:
        known.let_go.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as known:
        yield known
