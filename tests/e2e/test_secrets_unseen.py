"""Keys and signatures are in no log, document, output or database, whatever becomes of a run."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from minio import Minio

from support.installation import Installation, MinioDrops, samples
from support.runpod.cloud import Cloud, cloud, installed, runpod
from support.runpod.faults import Fault
from support.runpod.jobs import Auto

CALLBACKS = "callback-secret-4d1f0a"
SIGNED = re.compile(rb"X-Amz-(Signature|Credential|Security-Token)(=|%3D)", re.IGNORECASE)


@pytest.fixture
def there() -> Iterator[Cloud]:
    """`good` works. `hub` and `parrot` fail every job, and say back all that they were told."""
    with cloud() as there:
        there.endpoint("denying")
        there.endpoint("hub", auto=Auto(0.1, lambda job: {"error": f"Download failed: {json.dumps(job.input)}"}))
        there.endpoint("parrot", auto=Auto(0.1, lambda job: {"error": json.dumps(job.input), "output": job.input}))
        there.work(there.endpoint("good"), "odd", count=2)
        yield there


@pytest.fixture
def install(
    tmp_path: Path, there: Cloud, minio_server: Any, minio_client: Minio, minio_bucket: str
) -> Iterator[Installation]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    ends = (
        runpod("denying", "whisper"),
        runpod("good", "whisper", order=1),
        runpod("parrot", "nvenc", order=1),
        # Only a model that its workers know comes here.
        runpod("hub", "whisper", dialect="whisper-hub", order=1, weight=1e9),
    )
    hints = {"host": "127.0.0.1", "port": port, "url": f"http://127.0.0.1:{port}"}
    url = there.provider.url
    more = {"runpod": {"api": url, "management": url, "hints": hints}, "task_timeout": 6.0}
    made = installed(tmp_path, there, minio_server, minio_client, minio_bucket, *ends, **more)
    made.environ["GPUDROP_CALLBACK_SECRET"] = CALLBACKS
    yield made
    made.close()


def test_secrets_are_never_seen(install: Installation, there: Cloud) -> None:
    key = there.provider.api_key
    page = f"<html><body>no such key: {key} <i>Authorization: Bearer {key}</i></body></html>"
    there.of(lambda p: p.faults.on("run", Fault(401, page, "text/html"), None, endpoint="denying"))
    install.start(manifests={"max_attempts": 2})
    install.drops.put("a.mp3", b"sound")
    install.drops.put("a.jpg", samples()["media/dawn.jpg"])

    cancelled = speech(install, "cancelled", "patient")
    install.running(cancelled)
    install.drops.put("cancelled.cancel", b"")
    assert install.failed(cancelled)["code"] == "cancelled"
    assert [e["code"] for e in install.logged("endpoint_refused")] == ["endpoint_denied"]
    install.done(speech(install, "fine", "quick"))
    echo = Fault(500, f"cannot GET {address(there)} with {key}", "text/plain")
    there.of(lambda p: p.faults.on("status", echo, 2, endpoint="good"))
    install.done(speech(install, "asked-in-vain", "other"))
    assert install.failed(speech(install, "endless", "patient"))["code"] == "task_timed_out"
    assert install.failed(speech(install, "broken", "break"))["code"] == "worker_error"
    pictures = {"images": [{"image": "a.jpg", "duration": 1}], "path": "clips/"}
    install.drops.put("parrot.job.json", json.dumps(pictures).encode())
    assert install.failed("parrot.job.json")["code"] == "worker_error"
    assert install.failed(speech(install, "unreachable", "base"))["code"] == "transfer_failed"
    assert {name for name in ("good", "parrot", "hub") if there.jobs(name)} == {"good", "parrot", "hub"}

    told = [install.command(*words.split()) for words in ("status", "costs", "costs --by run", "endpoints", "check")]
    log = "".join(worker.log for worker in there.workers)
    assert log, "a worker's log was looked at"
    install.stop()
    secrets = secrets_of(install, there)
    assert len(secrets) > 10, "keys, and the signatures of what workers were given"
    places = {"worker's log": log.encode(), "listener's log": install.log_text().encode()}
    places |= {f"output {i}": (done.stdout + done.stderr).encode() for i, done in enumerate(told)}
    places |= in_the_bucket(install) | in_the_state(install)
    assert len(places) > 20
    assert leaks(places, secrets) == []
    the_search_finds_what_is_there(install, places, secrets)


def speech(install: Installation, name: str, model: str) -> str:
    key = f"{name}.job.json"
    install.drops.put(key, json.dumps({"audio": "a.mp3", "model": model, "path": f"{name}/"}).encode())
    return key


def address(there: Cloud) -> str:
    """A presigned address that a worker was given."""
    return there.jobs("good")[-1].input["task"]["inputs"][0]["url"]


def secrets_of(install: Installation, there: Cloud) -> dict[str, bytes]:
    """By what each is: our keys, what is derived from them, and every signature that left for the provider."""
    key = there.provider.api_key
    secrets = {
        "RunPod's key": key,
        "the store's key": install.environ["GPUDROP_S3_SECRET_KEY"],
        "the callbacks' secret": CALLBACKS,
        "the hints' secret": hmac.new(key.encode(), b"gpudrop webhook", hashlib.sha256).hexdigest()[:40],
    }
    jobs = [job for name in ("good", "parrot", "hub") for job in there.jobs(name)]
    assert secrets["the hints' secret"] in (jobs[0].webhook or "")
    urls: list[str] = re.findall(r"https?://[^\"\s]+", json.dumps([job.input for job in jobs]))
    for url in urls:
        for signature in parse_qs(urlsplit(url).query).get("X-Amz-Signature", []):
            secrets[f"the signature of {urlsplit(url).path}, {signature[:4]}"] = signature
    return {what: text.encode() for what, text in secrets.items()}


def in_the_bucket(install: Installation) -> dict[str, bytes]:
    """Every object; of done sidecars all but the links, which users are meant to get."""
    assert isinstance(install.drops, MinioDrops)
    found = {f"object {key}": install.drops.get(key) or b"" for key in install.drops.listing()}
    for name in [name for name in found if name.endswith(".done.json")]:
        document = json.loads(found[name])
        links: dict[str, str] = document.pop("links")
        assert links.keys() == {output["key"] for output in document["outputs"]}
        for key, link in links.items():
            assert urlsplit(link).path == f"/{install.drops.bucket}/{key}"
        found[name] = json.dumps(document).encode()
        found[f"links of {name}"] = SIGNED.sub(b"", json.dumps(links).encode())
    return found


def in_the_state(install: Installation) -> dict[str, bytes]:
    """The raw bytes of the engine's and the ledger's files, what is deleted in them included."""
    files = [path for path in (install.folder / "state").rglob("*") if path.is_file()]
    found = {f"state {path.name}": path.read_bytes() for path in files}
    assert sum(data.startswith(b"SQLite format 3") for data in found.values()) >= 2
    assert any(b"cancelled.job.json" in data for data in found.values())
    return found


def leaks(places: Mapping[str, bytes], secrets: Mapping[str, bytes]) -> list[str]:
    found = [f"{what} in {place}" for place, data in places.items() for what, text in secrets.items() if text in data]
    return found + [f"a signed address in {place}" for place, data in places.items() if SIGNED.search(data)]


def the_search_finds_what_is_there(
    install: Installation, places: Mapping[str, bytes], secrets: Mapping[str, bytes]
) -> None:
    """A search that finds nothing anywhere would find nothing here either."""
    for what, text in secrets.items():
        for place in places:
            assert leaks({place: places[place] + text}, secrets) == [f"{what} in {place}"]
    install.drops.put("planted.txt", b"?X-Amz-Credential=x&" + secrets["the store's key"])
    planted = leaks(in_the_bucket(install), secrets)
    assert planted == ["the store's key in object planted.txt", "a signed address in object planted.txt"]
