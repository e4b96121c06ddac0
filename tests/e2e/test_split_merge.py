"""A list of images over the limit: several jobs, one answer, and only the part that failed is done again."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from PIL import Image

from support.installation import FolderDrops, Installation
from support.processes import name_of

SPLIT = {"img2vid": {"images_per_job": 4, "max_jobs": 3}, "local": {"nvenc_slots": 3}}
SMALL = {"width": 320, "height": 180, "zoom_to": 1.0, "path": "clips/"}
FPS = 24


def gray(i: int) -> int:
    """How bright image number i is: different for each of them."""
    return 30 + 20 * i


def drop(install: Installation, durations: list[float], *, spoilt: int | None = None, **manifest: Any) -> str:
    """The key of a manifest over as many images; number `spoilt` is none."""
    for i in range(len(durations)):
        image = io.BytesIO()
        Image.new("L", (320, 180), gray(i)).save(image, "PNG")
        install.drops.put(f"images/{i}.png", b"no picture" if i == spoilt else image.getvalue())
    images = [{"image": f"images/{i}.png", "duration": d, "id": f"scene {i}"} for i, d in enumerate(durations)]
    key = "film.job.json"
    install.drops.put(key, json.dumps({**SMALL, **manifest, "images": images}).encode())
    return key


def frames(install: Installation, key: str) -> list[float]:
    """How bright each frame of a finished video is, from 0 to 255."""
    data = install.drops.get(key)
    assert data
    with av.open(io.BytesIO(data)) as video:
        return [float(np.mean(frame.to_ndarray(format="gray"))) for frame in video.decode(video=0)]


def told_in_order(install: Installation, done: dict[str, Any], durations: list[float]) -> None:
    assert [v["id"] for v in done["videos"]] == [f"scene {i}" for i in range(len(durations))]
    assert [v["filename"] for v in done["videos"]] == [f"video_{i + 1}.mp4" for i in range(len(durations))]
    assert {o["key"] for o in done["outputs"]} == {f"clips/video_{i + 1}.mp4" for i in range(len(durations))}
    for i, duration in enumerate(durations):
        seen = frames(install, f"clips/video_{i + 1}.mp4")
        assert len(seen) == round(duration * FPS)
        assert all(abs(brightness - gray(i)) < 6 for brightness in seen), f"video_{i + 1}.mp4 shows another image"


def test_a_long_list_is_shared_out_and_told_in_its_order(install: Installation) -> None:
    durations = [0.5, 3.0, 0.25, 1.0, 0.5, 2.0, 0.25, 1.5, 0.5]
    install.start(triggers=[], **SPLIT)
    done = install.done(drop(install, durations))
    assert done["stats"]["tasks"] == 3
    assert (done["stats"]["total"], done["stats"]["processed"]) == (9, 9)
    assert done["stats"]["frames"] == sum(round(d * FPS) for d in durations)
    told_in_order(install, done, durations)


def test_a_list_within_the_limit_is_one_job(folder_install: Installation) -> None:
    folder_install.start(triggers=[], **SPLIT)
    done = folder_install.done(drop(folder_install, [0.25] * 4))
    assert done["stats"]["tasks"] == 1


def written(root: Path, *names: int) -> dict[str, tuple[int, int]]:
    """Which file lies under each name, and since when: writing one again would change both."""
    stats = {f"video_{n}.mp4": (root / "clips" / f"video_{n}.mp4").stat() for n in names}
    return {name: (s.st_ino, s.st_mtime_ns) for name, s in stats.items()}


def encoder(install: Installation, output: str) -> psutil.Process | None:
    """The process that encodes `output` now."""
    for process in install.children():
        try:
            if any(argument.endswith(output) for argument in process.cmdline()):
                return process
        except psutil.Error:
            continue
    return None


def test_a_part_whose_worker_dies_is_done_again_alone(folder_install: Installation) -> None:
    """The third image is so long that it is a job of its own; the other eight share two."""
    install = folder_install
    assert isinstance(install.drops, FolderDrops)
    root, others = install.drops.root, [n for n in range(1, 10) if n != 3]
    durations = [0.5 + 0.25 * (i % 3) for i in range(9)]
    durations[2] = 60.0
    install.start(triggers=[], **SPLIT)
    key = drop(install, durations, width=640, height=360)
    victim = install.until(lambda: encoder(install, "video_3.mp4"))
    victim.suspend()
    install.until(lambda: all((root / "clips" / f"video_{n}.mp4").is_file() for n in others))
    before = written(root, *others)
    worker = victim.parent()
    assert worker and "gpu_dispatch.worker.child" in worker.cmdline()
    worker.kill()
    again = install.until(lambda: (p := encoder(install, "video_3.mp4")) and p.pid != victim.pid and p)
    assert again.parent() != worker
    install.until(lambda: install.running(key)["attempt"] == 2)
    done = install.done(key)
    assert written(root, *others) == before
    assert done["stats"]["tasks"] == 3
    told_in_order(install, done, durations)
    assert not install.logged("run_defect")


def test_a_part_that_cannot_be_done_ends_the_run_and_says_which_image_it_was(folder_install: Installation) -> None:
    install = folder_install
    install.start(triggers=[], **SPLIT)
    # The other parts would take many minutes, and nobody would need them.
    key = drop(install, [0.25 if i == 7 else 400.0 for i in range(9)], spoilt=7)
    error = install.failed(key)
    assert error["code"] == "image_unreadable"
    assert error["retryable"] is False
    letter = json.loads((root_of(install) / error["dead_letter"]).read_bytes())
    # Where its worker began late, another part may have been done before.
    codes = [attempt["error"]["code"] for attempt in letter["attempts"] if attempt["error"]]
    assert codes.count("image_unreadable") == 1, "a permanent error is not tried again"
    assert len(letter["attempts"]) == 3 and set(codes) <= {"cancelled", "image_unreadable"}
    assert [child for child in install.children() if "ffmpeg" in name_of(child)] == []


def root_of(install: Installation) -> Path:
    assert isinstance(install.drops, FolderDrops)
    return install.drops.root
