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


@pytest.fixture
def there(model_dir: Path) -> Iterator[Cloud]:
    """One real worker at each endpoint."""
    with cloud() as there:
        for name in ("whisper", "nvenc"):
            told = {"GPUDROP_CAPABILITIES": name, "GPUDROP_MODEL_DIR": str(model_dir), "GPUDROP_OFFLINE": "1"}
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


def test_every_sample_comes_back_from_the_cloud(install: Installation, there: Cloud, tmp_path: Path) -> None:
    install.start(defaults={"transcribe": {"model": "tiny.en"}})
    for key, data in samples().items():
        install.drops.put(key, data)
    moved: list[dict[str, Any]] = []

    def slides_done() -> dict[str, Any] | None:
        if (status := install.document("slides.job.yaml", "status")) and status not in moved:
            moved.append(status)
        return install.document("slides.job.yaml", "done")

    install.until(slides_done)
    done = check_samples(install, tmp_path)
    states = [status["state"] for status in moved]
    running = [status for status in moved if status["state"] == "running"]
    assert running and states.index("running") == min(states.count("accepted") + states.count("queued"), len(states))
    assert [status["percent"] for status in running] == sorted(status["percent"] for status in running)
    assert any(0 < status["percent"] < 100 for status in running)
    jobs = {job.id: job for name in ("whisper", "nvenc") for job in there.jobs(name)}
    assert {note["id"] for status in running for note in status["jobs"]} <= jobs.keys()
    assert [len(there.jobs(name)) for name in ("whisper", "nvenc")] == [1, 3]
    assert [(job.status, job.taken, job.finished) for job in jobs.values()] == [("COMPLETED", 1, 1)] * 4
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
