"""Both ffmpeg programs, and media made with one of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from video_oracle import BUNDLED

from gpu_dispatch.task import Progress
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.video.encoder import Encoder
from gpu_dispatch.worker.video.ffmpeg import FFmpeg
from support.requirements import require

PROGRAMS = {"system": shutil.which("ffmpeg"), "bundled": BUNDLED}


@pytest.fixture(scope="session", params=sorted(PROGRAMS))
def ffmpeg(request: pytest.FixtureRequest) -> FFmpeg:
    """Each ffmpeg that the product must work with: an old system one, and imageio-ffmpeg's."""
    path = PROGRAMS[request.param]
    require(path, "ffmpeg is not installed.", "install the package ffmpeg")
    return FFmpeg(path or "", timeout_s=120)


@pytest.fixture(scope="session")
def bundled() -> FFmpeg:
    return FFmpeg(BUNDLED, timeout_s=120)


@pytest.fixture
def encoder(ffmpeg: FFmpeg) -> Encoder:
    return Encoder(ffmpeg)


@pytest.fixture
def job(tmp_path: Path) -> JobContext:
    return JobContext(tmp_path, lambda _: None)


@pytest.fixture
def told(tmp_path: Path) -> tuple[JobContext, list[Progress]]:
    reports: list[Progress] = []
    return JobContext(tmp_path, reports.append), reports


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make("a.mp4", "-f", "lavfi", …): a file made by ffmpeg once a session; the same arguments give the same file."""
    folder = tmp_path_factory.mktemp("media")
    made: dict[tuple[str, ...], Path] = {}

    def run(name: str, *args: str) -> Path:
        if (name, *args) not in made:
            path = folder / str(len(made)) / name
            path.parent.mkdir()
            subprocess.run([BUNDLED, "-nostdin", "-v", "error", *args, str(path)], check=True, timeout=60)
            made[name, *args] = path
        return made[name, *args]

    return run
