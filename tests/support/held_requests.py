"""A way to a store on which single requests are held back: they arrive later, whoever asked having gone or not."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from support.deadlines import HANG_S

WAIT_S = HANG_S


@dataclass
class Held:
    """The next request of this method whose key ends so. `arrived` is set once it is here, `landed` once it is done."""

    method: str
    suffix: str
    arrived: threading.Event = field(default_factory=threading.Event)
    landed: threading.Event = field(default_factory=threading.Event)
    body: bytes = b""
    _released: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> bytes:
        """What was to be written, once the request is here."""
        assert self.arrived.wait(WAIT_S), f"no {self.method} of …{self.suffix}"
        return self.body

    def release(self) -> None:
        """Lets it through, and returns once the store has answered it."""
        self._released.set()
        assert self.landed.wait(WAIT_S)

    def take(self, body: bytes) -> None:
        self.body = body
        self.arrived.set()
        self._released.wait(WAIT_S)


class HoldingProxy:
    """HTTP to the server at `endpoint`; `endpoint` of its own is where its clients go."""

    def __init__(self, endpoint: str) -> None:
        self._target = urlsplit(endpoint).netloc
        self._held: list[Held] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def hold(self, method: str, suffix: str) -> Held:
        held = Held(method, suffix)
        with self._lock:
            self._held.append(held)
        return held

    @contextmanager
    def serving(self) -> Iterator[HoldingProxy]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def _caught(self, method: str, path: str) -> Held | None:
        key = unquote(urlsplit(path).path)
        with self._lock:
            for held in self._held:
                if held.method == method and key.endswith(held.suffix):
                    self._held.remove(held)
                    return held
        return None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                held = proxy._caught(self.command, self.path)
                if held:
                    held.take(body)
                upstream = http.client.HTTPConnection(proxy._target, timeout=WAIT_S)
                try:
                    upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        upstream.putheader(name, value)
                    upstream.endheaders(body or None)
                    self._answer(upstream.getresponse())
                finally:
                    if held:
                        held.landed.set()
                    upstream.close()

            def _answer(self, answer: http.client.HTTPResponse) -> None:
                self.close_connection = True
                with suppress(OSError):
                    self.send_response_only(answer.status, answer.reason)
                    for name, value in answer.getheaders():
                        if name.lower() not in ("transfer-encoding", "connection"):
                            self.send_header(name, value)
                    self.send_header("Connection", "close")
                    self.end_headers()
                    while piece := answer.read1(65536):
                        self.wfile.write(piece)

        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            setattr(Handler, f"do_{method}", Handler._pass_on)
        return Handler
