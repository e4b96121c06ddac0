"""The demo's five drops through two endpoints on RunPod, done by the real worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from support.installation import AUDIO_TRIGGERS, Installation, MinioDrops, samples
from support.runpod.cloud import PRICE, Cloud, cloud, installed, pending, runpod
from support.sample_checks import check_samples

STATES = ("accepted", "waiting", "queued", "running", "writing")


@pytest.fixture
def there(model_dir: Path) -> Iterator[Cloud]:
    """One real worker at each endpoint."""
    with cloud() as there:
        for name in ("whisper", "nvenc"):
            told: dict[str, Any] = {
                "GPUDROP_CAPABILITIES": name,
                "GPUDROP_MODEL_DIR": str(model_dir),
                "GPUDROP_OFFLINE": "1",
            }
            there.work(there.endpoint(name), "real", **told, GPUDROP_DEVICE="cpu")
        yield there


@pytest.fixture
def install(
    tmp_path: Path, there: Cloud, minio_server: Any, minio_client: Minio, minio_bucket: str
) -> Iterator[Installation]:
    ends = runpod("whisper", "whisper"), runpod("nvenc", "nvenc")
    made = installed(tmp_path, there, minio_server, minio_client, minio_bucket, *ends, triggers=AUDIO_TRIGGERS)
    yield made
    made.close()


def signed_for_the_job_alone(task: dict[str, Any]) -> bool:
    """Whether every link of it is signed with temporary keys."""
    links = [each["url"] for each in (*task["inputs"], *task["outputs"])]
    links += [*task["claim"].values(), task["answer_url"], task["answer_get_url"]]
    return all("X-Amz-Security-Token=" in link for link in links if link.startswith("http"))


def test_every_sample_comes_back_from_the_cloud(install: Installation, there: Cloud, tmp_path: Path) -> None:
    install.start(defaults={"transcribe": {"model": "tiny.en"}})
    for key, data in samples().items():
        install.drops.put(key, data)
    moved = statuses(install, "slides.job.yaml", "captions.job.json", "mux.job.json")
    done = check_samples(install, tmp_path)
    for each in moved.values():
        assert [STATES.index(status["state"]) for status in each] == sorted(STATES.index(s["state"]) for s in each)
    every = [status for each in moved.values() for status in each]
    assert any(status["state"] == "queued" and status["jobs"] for status in every), "one worker, three jobs"
    running = [status for status in moved["slides.job.yaml"] if status["state"] == "running"]
    assert [status["percent"] for status in running] == sorted(status["percent"] for status in running)
    assert any(0 < status["percent"] < 100 for status in running)
    jobs = {job.id: job for name in ("whisper", "nvenc") for job in there.jobs(name)}
    assert {note["id"] for status in every for note in status["jobs"]} <= jobs.keys()
    assert {note["id"] for status in running for note in status["jobs"]}
    assert [len(there.jobs(name)) for name in ("whisper", "nvenc")] == [1, 3]
    assert [(job.status, job.taken, job.finished) for job in jobs.values()] == [("COMPLETED", 1, 1)] * 4
    assert all(signed_for_the_job_alone(job.input["task"]) for job in jobs.values())
    for document in done.values():
        spent = document["stats"]["executionTime"] / 1000 * PRICE
        assert document["cost"]["usd"] == pytest.approx(spent, abs=1e-6)
        assert spent > 0
    assert sum(d["cost"]["usd"] for d in done.values()) == pytest.approx(there.billed_s() * PRICE, abs=5e-6)
    assert there.waiting() == []
    assert isinstance(install.drops, MinioDrops)
    drops = install.drops
    install.until(lambda: not pending(drops))
    assert install.stop() < 5.0


def statuses(install: Installation, *keys: str) -> dict[str, list[dict[str, Any]]]:
    """Every status of `keys` that could be read before all of them were done."""
    moved: dict[str, list[dict[str, Any]]] = {key: [] for key in keys}

    def all_done() -> bool:
        for key in keys:
            status = install.document(key, "status")
            if status and status not in moved[key]:
                moved[key].append(status)
        return all(install.document(key, "done") for key in keys)

    install.until(all_done)
    return moved
