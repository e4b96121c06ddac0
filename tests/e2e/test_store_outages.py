"""The store goes away or refuses for a while, whatever a run is just doing: it is done afterwards, and paid once.

One listener behind a proxy, and for each way to fail a run in every phase: the request that a phase begins with is kept
waiting until all of them are there, and then everything is refused.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from minio import MinioAdmin
from minio.credentials import StaticProvider

from support import store_proxy
from support.installation import samples
from support.runpod.cloud import Cloud
from support.runpod.installation import RunPodInstallation, bucket_of_its_own, runpod_installation
from support.store_proxy import Refusal, StoreProxy
from support.stores import admin_client, servers, start_minio

pytestmark = pytest.mark.minio

AWAY_S = 12.0
CLAIM = r"\.gpudrop/jobs/.*\.claim"
USER = ("drops", "a-secret-of-the-drops")


@dataclass(frozen=True)
class Receiver:
    url: str
    heard: set[str] = field(default_factory=set[str])
    asked: set[str] = field(default_factory=set[str])
    deaf: threading.Event = field(default_factory=threading.Event)
    """While it is set, nothing is taken."""


@dataclass(frozen=True)
class Bench:
    rp: RunPodInstallation
    proxy: StoreProxy
    server: Any
    admin: MinioAdmin
    receiver: Receiver

    def drop(self, phase: str, way: str) -> str:
        """A run that gets as far as `phase`, and no further before the refusal begins. Its key."""
        name = f"{phase}-{way}"
        requests = {
            "reading": ("GET", f"{name}.job.json"),
            "planning": ("HEAD", f"{name}.mp3"),
            "sending": ("PUT", CLAIM),
            "finishing": ("PUT", f"{name}/.*"),
            "writing": ("PUT", f"{name}.done.json"),
        }
        more: dict[str, Any] = {"audio": f"{name}.mp3"}
        if phase != "waiting":
            self.rp.install.drops.put(f"{name}.mp3", b"sound")
        if phase == "calling":
            more["callback_url"] = f"{self.receiver.url}{name}"
        if phase in requests:
            self.proxy.hold(*requests[phase])
        if phase == "uploading":
            return self._film(name)
        return self.rp.drop(name, "wait-10" if phase == "following" else "quick", **more)

    def _film(self, name: str) -> str:
        """Its worker leaves files in the store."""
        key = f"{name}.job.json"
        self.proxy.hold("PUT", f"{name}/.*")
        images = [{"image_url": "a.jpg", "duration": 1}]
        asked = {"images": images, "path": f"{name}/"}
        self.rp.install.drops.put(key, json.dumps(asked).encode())
        return key


PHASES = ("reading", "waiting", "planning", "following", "uploading", "finishing", "writing", "calling", "sending")
"""In the order of their drops: the claim that is kept waiting is the last one's."""


@contextmanager
def receiving() -> Generator[Receiver]:
    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            name, body = self.path.strip("/"), json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.asked.add(name)
            if not receiver.deaf.is_set():
                assert body["key"] == f"{name}.job.json"
                receiver.heard.add(name)
            self.send_response(503 if receiver.deaf.is_set() else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}/")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield receiver
        server.shutdown()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, there: Cloud) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("outages")
    server = start_minio("minio", folder / "minio")
    admin = MinioAdmin(
        endpoint=server.host,
        credentials=StaticProvider(server.access_key, server.secret_key),
        region="us-east-1",
        secure=False,
    )
    admin.user_add(*USER)
    admin.attach_policy(["readwrite"], user=USER[0])
    client = admin_client(server)
    with (
        receiving() as receiver,
        store_proxy.store_proxy(server) as proxy,
        bucket_of_its_own(client) as bucket,
        runpod_installation(folder, server, client, bucket, there=there) as rp,
    ):
        rp.install.config["store"]["endpoint"] = proxy.endpoint
        rp.install.config["callbacks"] = {"private_hosts": ["127.0.0.1"], "max_attempts": 20}
        rp.install.config["reconcile"] = {"interval": 2}
        rp.install.environ |= {"GPUDROP_S3_ACCESS_KEY": USER[0], "GPUDROP_S3_SECRET_KEY": USER[1]}
        rp.install.drops.put("a.jpg", samples()["media/dawn.jpg"])
        rp.work(count=3, restart=True)
        rp.install.start()
        yield Bench(rp, proxy, server, admin, receiver)
    servers.stop(server)


@contextmanager
def killed(bench: Bench) -> Generator[None]:
    """kill -9 of the store, and its start."""
    servers.kill(bench.server)
    bench.proxy.release()
    yield
    servers.restart(bench.server)


@contextmanager
def disabled(bench: Bench) -> Generator[None]:
    """The user whose keys the listener has."""
    bench.admin.user_disable(USER[0])
    bench.proxy.release()
    yield
    bench.admin.user_enable(USER[0])


def refusing(refusal: Refusal) -> Callable[[Bench], Any]:
    return lambda bench: bench.proxy.refusing(refusal)


@dataclass(frozen=True)
class Way:
    name: str
    begin: Callable[[Bench], Any]


WAYS = [
    Way("killed", killed),
    Way("disabled", disabled),
    Way("denied", refusing(store_proxy.DENIED)),
    Way("unknown-key", refusing(store_proxy.NO_KEY)),
    Way("clock", refusing(store_proxy.CLOCK)),
    Way("no-bucket", refusing(store_proxy.NO_BUCKET)),
    Way("timeout", refusing(store_proxy.TIMEOUT)),
    Way("incomplete", refusing(store_proxy.INCOMPLETE)),
    Way("conflict", refusing(store_proxy.CONFLICT)),
    Way("client-gone", refusing(store_proxy.CLIENT_GONE)),
    Way("slow-down", refusing(store_proxy.SLOW_DOWN)),
    Way("cut", refusing(store_proxy.CUT)),
]


@pytest.mark.parametrize("way", WAYS, ids=[way.name for way in WAYS])
def test_a_store_that_fails_for_a_while_ends_no_run(bench: Bench, way: Way) -> None:
    install = bench.rp.install
    bench.receiver.deaf.set()
    keys = _dropped(bench, way, PHASES[:-1]) | _dropped(bench, way, PHASES[-1:])
    with way.begin(bench):
        time.sleep(AWAY_S)
    bench.receiver.deaf.clear()
    install.drops.put(f"waiting-{way.name}.mp3", b"sound")
    for phase, key in keys.items():
        document = install.ended(key)
        assert document["code"] == 200, (phase, document)
        assert install.document(key, "error") is None, phase
    for phase, key in keys.items():
        bench.rp.quiet(key)
        assert _executions(bench, phase, key) == 1, phase
    install.until(lambda: f"calling-{way.name}" in bench.receiver.heard)


def test_what_runs_wait_for_is_told_where_no_status_can_be_written(bench: Bench) -> None:
    """By the log, once, and by `gpudrop status`: also for a run that has all but its last word."""
    install = bench.rp.install
    keys = [bench.drop(phase, "told") for phase in ("reading", "writing")]
    install.until(lambda: all(_is_there(bench, key.partition("-")[0], key) for key in keys))

    def told() -> bool:
        lines = install.command("status", "--limit", "20").stdout
        waiting = [line for line in lines.splitlines() if "the keys may not do this (AccessDenied)" in line]
        return all(any(line.startswith(f"{key} waits for: ") for line in waiting) for key in keys)

    with bench.proxy.refusing(store_proxy.DENIED):
        install.until(told)
        assert [e for e in install.logged("runs_wait") if "(AccessDenied)" in e["error"] and e["hint"]]
    for key in keys:
        install.done(key)
    assert "waits for: " not in install.command("status", "--limit", "20").stdout


def _dropped(bench: Bench, way: Way, phases: Sequence[str]) -> dict[str, str]:
    """The keys of runs that have got as far as their phases."""
    keys = {phase: bench.drop(phase, way.name) for phase in phases}
    bench.rp.install.until(lambda: all(_is_there(bench, phase, key) for phase, key in keys.items()))
    return keys


def _is_there(bench: Bench, phase: str, key: str) -> bool:
    name = key.removesuffix(".job.json")
    match phase:
        case "waiting":
            status = bench.rp.install.document(key, "status")
            return bool(status and status["state"] == "waiting")
        case "following":
            return any(job.taken for job in bench.rp.jobs(key))
        case "planning":
            return bench.proxy.waits(f"HEAD {name}.mp3")
        case "reading":
            return bench.proxy.waits(f"GET {name}.job.json")
        case "sending":
            return bench.proxy.waits(f"PUT {CLAIM}")
        case "uploading" | "finishing":
            return bench.proxy.waits(f"PUT {name}/")
        case "writing":
            return bench.proxy.waits(f"PUT {name}.done.json")
        case _:
            return name in bench.receiver.asked


def _executions(bench: Bench, phase: str, key: str) -> int:
    if phase != "uploading":
        return bench.rp.paid(key)
    name = key.removesuffix(".job.json")
    jobs = [
        job
        for job in bench.rp.there.jobs(bench.rp.endpoint.id)
        if any(f"/{name}/" in output["url"] for output in job.input["task"]["outputs"])
    ]
    return sum(not e.error.startswith(("duplicate_job", "cancelled")) for job in jobs for e in job.executions)
