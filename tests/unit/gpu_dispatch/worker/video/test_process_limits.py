"""What the kernel holds the programs to that a worker starts, and what is said of one that met it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from gpu_dispatch.worker.confinement import limit_error
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, error_line
from gpu_dispatch.worker.video.filters import frame_threads
from gpu_dispatch.worker.video.probe import VideoTrack
from gpu_dispatch.worker.video.process import run_process
from manifests.errors import ResourceExhausted, TaskTimedOut
from support.deadlines import HANG_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have none of this")

LIMITS = "while [ $(ulimit -f) = unlimited ]; do sleep 0.02; done; setsid cat /proc/self/limits"


async def test_what_a_program_starts_and_lets_go_has_its_limits() -> None:
    """Nobody would ever end a process that has left the session, but for this."""
    told = b""

    def keep(chunk: bytes) -> None:
        nonlocal told
        told += chunk

    ended = await run_process(["sh", "-c", LIMITS], timeout_s=100.0, on_stdout=keep, largest=12345)
    found = {line[:26].strip(): line[26:].split()[:2] for line in told.decode().splitlines()}
    seconds = 100 * (os.cpu_count() or 1) + 1
    assert ended.code == 0
    assert found["Max cpu time"] == [str(seconds), str(seconds + 10)]
    assert found["Max file size"] == ["12345", "12345"]


def test_a_program_that_met_a_limit_is_told_from_one_that_failed(ffmpeg: FFmpeg) -> None:
    endless = ["-hide_banner", "-loglevel", "level+warning", "-f", "lavfi", "-i", "testsrc2=size=1920x1080"]
    command = [ffmpeg.path, *endless, "-f", "null", "-"]
    ended = subprocess.run(command, preexec_fn=_one_second, capture_output=True, text=True, timeout=HANG_S)
    silent = not error_line(ended.stderr.splitlines())
    assert isinstance(limit_error(ended.returncode, 0, "a.mp4", silent=silent), TaskTimedOut)
    assert isinstance(limit_error(-25, 100, "a.mp4", silent=True), ResourceExhausted)
    for code in (-9, 1, 255):
        assert limit_error(code, 100, "a.mp4", silent=False) is None


def _one_second() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (1, 11))


def test_threads_are_counted_by_the_cores_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """ffmpeg starts no more by itself, and each one holds frames."""
    full_hd = VideoTrack("h264", 1920, 1080, (1, 1), 0, 25.0, True, "yuv420p", False, "", "", "")
    monkeypatch.setattr("os.cpu_count", lambda: 4096)
    assert frame_threads(full_hd) == 0 or 2 * len(os.sched_getaffinity(0)) > 2**28 // (1920 * 1080)
