"""Endpoints with published workers: a bare recording becomes the usual files, others do what they cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from support.installation import Installation
from support.runpod.cloud import Cloud, cloud, installed, runpod
from support.runpod.faults import Fault
from support.runpod.jobs import Auto

DIALECTS = ("whisper-hub", "worker-faster_whisper")
SHAPES = Path(__file__).parents[1] / "support" / "runpod_shapes"
SPOKEN = "And so, ask not."


@pytest.fixture(scope="module")
def there() -> Iterator[Cloud]:
    """An endpoint of each dialect, named after it, with its recorded worker."""
    with cloud() as there:
        there.work(there.endpoint(DIALECTS[0]), "whisper-hub")
        there.work(there.endpoint(DIALECTS[1]), "worker-faster_whisper")
        yield there


@pytest.fixture
def install(
    tmp_path: Path, there: Cloud, minio_server: Any, minio_client: Minio, minio_bucket: str
) -> Iterator[Installation]:
    """Ready, with an endpoint of each dialect; the Hub's is asked first."""
    there.of(lambda p: [each.jobs.clear() for each in p.endpoints.values()] and p.calls.clear())
    ends = [runpod(name, "whisper", dialect=name, order=order) for order, name in enumerate(DIALECTS)]
    manifest = {"operation": "transcribe", "path": "heard/"}
    triggers = [{"name": "speech", "pattern": ["*.mp3"], "manifest": manifest}]
    made = installed(tmp_path, there, minio_server, minio_client, minio_bucket, *ends, triggers=triggers)
    made.start()
    yield made
    made.close()


def manifest(install: Installation, name: str, **fields: Any) -> str:
    key = f"{name}.job.json"
    install.drops.put(key, json.dumps({"audio": "/in/a.ogg", "path": f"{name}/", **fields}).encode())
    return key


def test_published_workers_serve_drops(install: Installation, there: Cloud) -> None:
    install.drops.put("talk.mp3", b"sound")
    check_files(install, install.done("talk.mp3"), "heard/")
    (job,) = there.jobs("whisper-hub")
    assert job.input["audio"].partition("?")[0].endswith("/talk.mp3")
    assert job.input["word_timestamps"] is True

    install.drops.put("in/a.ogg", b"sound")
    check_files(install, install.done(manifest(install, "prompted", initial_prompt="Kennedy")), "prompted/")
    (job,) = there.jobs("worker-faster_whisper")
    assert job.input["initial_prompt"] == "Kennedy"
    assert len(there.jobs("whisper-hub")) == 1, "its workers take no prompt"

    refused = install.failed(manifest(install, "tokens", suppress_tokens=[1, 2]))
    assert (refused["code"], refused["retryable"]) == ("task_refused", False)
    for dialect in DIALECTS:
        assert f"{dialect}: {dialect} workers cannot take another suppress_tokens" in refused["message"]
    assert refused["hint"]
    assert there.ops("whisper-hub", "run") + there.ops("worker-faster_whisper", "run") == 2


def test_a_job_that_failed_is_started_again_under_its_id(install: Installation, there: Cloud) -> None:
    """The worker's answer is lost on its way, and the provider says that the job failed."""
    failing = there.of(lambda p: p.endpoints["whisper-hub"])
    install.drops.put("in/a.ogg", b"sound")
    broken = Fault(500)
    there.of(lambda p: p.faults.on("job-done", broken, None, endpoint="whisper-hub"))
    key = manifest(install, "again")
    job = install.until(lambda: next((job for job in there.jobs("whisper-hub") if job.taken), None))

    def fails(_: Any) -> None:
        failing.report(job.worker, job.id, {"error": "Job timed out after 1 retries"})

    there.of(fails)
    there.of(lambda p: p.faults.clear())
    check_files(install, install.done(key), "again/")
    assert there.ops("whisper-hub", "run") == 1
    assert there.ops("whisper-hub", "retry") == 1
    (again,) = there.jobs("whisper-hub")
    assert (again.id, again.retries, again.status) == (job.id, 1, "COMPLETED")
    assert there.jobs("worker-faster_whisper") == []


def test_a_job_is_followed_to_its_end_though_its_endpoint_is_not_configured_any_more(
    install: Installation, there: Cloud
) -> None:
    shapes = json.loads((SHAPES / "whisper-hub.json").read_text())
    there.endpoint("former", auto=Auto(12.0, lambda _: shapes["words"]["output"]))
    install.drops.put("in/a.ogg", b"sound")
    install.stop()
    remaining = install.config["endpoints"]
    install.start(endpoints=[runpod("former", "whisper", dialect="whisper-hub")])
    key = manifest(install, "begun-before")
    install.running(key)
    install.stop()
    install.start(endpoints=remaining)
    done = install.done(key)
    assert done["transcription"].startswith("And so, my fellow Americans")
    assert [job.taken for job in there.jobs("former")] == [1]
    assert there.ops("whisper-hub", "run") + there.ops("worker-faster_whisper", "run") == 0
    (said,) = install.logged("endpoint_not_configured")
    assert (said["endpoint"], said["id"]) == ("former", "former") and said["hint"]


def check_files(install: Installation, done: dict[str, Any], folder: str) -> None:
    assert done["transcription"] == SPOKEN
    words = json.loads(install.drops.get(f"{folder}words.json") or b"")["words"]
    assert [(word["word"].strip(), word["start"]) for word in words] == [
        ("And", 0.0),
        ("so,", 0.44),
        ("ask", 3.28),
        ("not.", 3.78),
    ]
    assert "ask not." in (install.drops.get(f"{folder}segments.srt") or b"").decode()
    assert (install.drops.get(f"{folder}karaoke.ass") or b"").decode().count("\\kf") >= len(words)
    assert done["cost"]["usd"] >= 0
