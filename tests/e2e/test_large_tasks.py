"""Tasks larger than a provider's queue takes, and lists of images longer than one job should have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from support.installation import Installation, MinioDrops, samples
from support.runpod.cloud import Cloud, cloud, installed, pending, runpod

IMAGES = 200
CUES = 1900
LIMIT = 10_000_000


@pytest.fixture
def there() -> Iterator[Cloud]:
    """`real` has our worker, `odd` three that make small files of images."""
    with cloud() as there:
        there.endpoint("real")
        there.endpoint("odd")
        yield there


@pytest.fixture
def install(
    tmp_path: Path, there: Cloud, minio_server: Any, minio_client: Minio, minio_bucket: str
) -> Iterator[Installation]:
    made = installed(tmp_path, there, minio_server, minio_client, minio_bucket)
    yield made
    made.close()


def test_a_task_too_large_for_the_queue_goes_through_the_store(install: Installation, there: Cloud) -> None:
    there.work(there.of(lambda p: p.endpoints["real"]), "real", GPUDROP_DEVICE="cpu")
    install.start(endpoints=[runpod("real", "nvenc")])
    clip = samples()["media/clip.mp4"]
    install.drops.put("clip.mp4", clip)
    install.drops.put("long.srt", subtitles(CUES).encode())
    install.drops.put("long.job.json", json.dumps({"video": "clip.mp4", "srt": "long.srt", "style": "pop"}).encode())
    job = install.until(lambda: next(iter(there.jobs("real")), None))
    assert isinstance(install.drops, MinioDrops)
    drops = install.drops
    assert set(job.input) == {"task_url", "trusted_hosts", "secret"}
    (kept,) = [key for key in pending(drops) if key.endswith("/1.task")]
    assert kept in job.input["task_url"]
    stored = drops.get(kept) or b""
    assert len(stored) > LIMIT
    assert b"Signature" not in stored and b"clip.mp4" not in stored, "no link lies in the bucket to be read"
    done = install.done("long.job.json")
    assert [(each.status, each.taken, each.finished) for each in there.jobs("real")] == [("COMPLETED", 1, 1)]
    assert drops.get("long.captioned.mp4") not in (None, b"", clip)
    assert done["outputs"][0]["key"] == "long.captioned.mp4"
    install.until(lambda: not pending(drops))


def subtitles(cues: int) -> str:
    """A cue a second, a dozen words each."""

    def clock(seconds: int) -> str:
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"

    text = "the river runs down from the mountain to the sea every morning"
    return "".join(f"{i + 1}\n{clock(i)},000 --> {clock(i)},900\n{text}\n\n" for i in range(cues))


def test_a_long_list_of_images_is_shared_out_and_told_in_order(install: Installation, there: Cloud) -> None:
    there.work(there.of(lambda p: p.endpoints["odd"]), "odd", count=3)
    install.start(endpoints=[runpod("odd", "nvenc")])
    picture = samples()["media/dawn.jpg"]
    install.drops.put("a.jpg", picture)
    images = [{"image": "a.jpg", "duration": 1, "id": f"scene {i}"} for i in range(IMAGES)]
    install.drops.put("film.job.json", json.dumps({"images": images, "path": "clips/"}).encode())
    done = install.done("film.job.json")
    jobs = there.jobs("odd")
    assert done["stats"]["tasks"] == len(jobs) == 3
    assert all((job.status, job.taken, job.finished) == ("COMPLETED", 1, 1) for job in jobs)
    assert len({job.worker for job in jobs}) == 3, "three workers shared the work"
    shares = [len(job.input["task"]["outputs"]) for job in jobs]
    assert sum(shares) == IMAGES and max(shares) - min(shares) <= 1
    names = [f"video_{i + 1}.mp4" for i in range(IMAGES)]
    assert [video["filename"] for video in done["videos"]] == names
    assert [video["id"] for video in done["videos"]] == [f"scene {i}" for i in range(IMAGES)]
    assert {output["key"] for output in done["outputs"]} == {f"clips/{name}" for name in names}
    for name in names:
        assert install.drops.get(f"clips/{name}") == name.encode()
    assert isinstance(install.drops, MinioDrops)
    drops = install.drops
    install.until(lambda: not pending(drops))
