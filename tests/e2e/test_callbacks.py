"""A user's system is told once, truly, and only where it may be."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support.installation import SAMPLES, Installation

SECRET = "between you and me"


@dataclass
class Receiver:
    """A receiver that answers with `answers` in turn, then with 200."""

    answers: list[tuple[int, bytes]] = field(default_factory=list)
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    known = Receiver()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            known.heard.append((dict(self.headers), body))
            status, text = known.answers.pop(0) if known.answers else (200, b"ok")
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    known.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield known
    server.shutdown()
    server.server_close()


def drop(install: Installation, receiver: Receiver, **fields: object) -> None:
    for name in ("clip.mp4", "chord.ogg"):
        install.drops.put(name, (SAMPLES / "media" / name).read_bytes())
    manifest = {"video": "clip.mp4", "audio": "chord.ogg", "output_filename": "out.mp4"}
    body = {**manifest, "callback_url": receiver.url, "metadata": {"video_id": 42}, **fields}
    install.drops.put("a.job.json", json.dumps(body).encode())


def test_the_done_sidecar_is_posted_and_signed(folder_install: Installation, receiver: Receiver) -> None:
    folder_install.environ["GPUDROP_CALLBACK_SECRET"] = SECRET
    receiver.answers += [(503, b"later"), (409, b"The execution is running already.")]
    folder_install.start(triggers=[], callbacks={"private_hosts": ["127.0.0.1"]})
    drop(folder_install, receiver)
    folder_install.until(lambda: len(receiver.heard) == 3)
    headers, body = receiver.heard[-1]
    assert headers["X-Gpudrop-Signature"] == "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    told = json.loads(body)
    assert told == folder_install.document("a.job.json", "done")
    assert told["metadata"] == {"video_id": 42}
    assert headers["X-Gpudrop-Run"] == told["run_id"]


def test_a_failure_is_told_too(folder_install: Installation, receiver: Receiver) -> None:
    receiver.answers += [(409, b"The execution has finished already.")]
    folder_install.start(triggers=[], callbacks={"private_hosts": ["127.0.0.1"]}, manifests={"wait_for_inputs": "1s"})
    drop(folder_install, receiver, audio="missing.ogg")
    folder_install.until(lambda: receiver.heard)
    assert json.loads(receiver.heard[0][1])["code"] == "input_missing"


def test_private_addresses_are_not_called(folder_install: Installation, receiver: Receiver) -> None:
    folder_install.start(triggers=[])
    drop(folder_install, receiver)
    folder_install.done("a.job.json")
    folder_install.until(lambda: folder_install.logged("callback_refused"))
    assert not receiver.heard
    assert SECRET not in folder_install.log_text()
