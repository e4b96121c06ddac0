"""Choosing an encoder, and living without NVENC when it goes away."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from video_oracle import BUNDLED

from gpu_dispatch.worker.video.encoder import Encoder, EncoderName, video_args
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, find_ffmpeg
from gpu_dispatch.worker.video.process import run_process
from manifests.errors import ConfigError, EncodeFailed, EngineUnavailable, TaskTimedOut
from manifests.options import VideoEncoding
from support.deadlines import HANG_S
from support.processes import Started

CARD = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=24:d=1"]


def fickle(folder: Path) -> FFmpeg:
    """An ffmpeg whose NVENC opens for a test frame and is out of sessions for anything else."""
    script = folder / "ffmpeg-fickle"
    script.write_text(
        f"""#!{sys.executable}
import os, sys
args = sys.argv[1:]
if "h264_nvenc" in args and "null" not in args:
    sys.exit("[h264_nvenc @ 0x1] [error] OpenEncodeSessionEx failed: incompatible client key (21)")
if "h264_nvenc" in args:
    at = args.index("h264_nvenc")
    args[at : at + 9] = ["libx264"]
os.execv({BUNDLED!r}, [{BUNDLED!r}, *args])
"""
    )
    script.chmod(0o755)
    return FFmpeg(str(script), timeout_s=60)


async def test_nvenc_that_fails_at_work_gives_way_to_libx264(tmp_path: Path) -> None:
    ffmpeg = fickle(tmp_path)
    encoder = Encoder(ffmpeg)
    assert (await encoder.choose()).name == "h264_nvenc"
    output = tmp_path / "out.mp4"

    async def attempt(name: EncoderName) -> int:
        codec = video_args(name, VideoEncoding(), fps=24)
        return (await ffmpeg.run([*CARD, *codec, str(output)], name="card", doing="encoding")).frames

    assert await encoder.encode(attempt) == (24, "libx264")
    assert output.stat().st_size > 0


async def test_the_choice_is_what_this_machine_can_do(ffmpeg: FFmpeg) -> None:
    choice = await Encoder(ffmpeg).choose()
    done = await ffmpeg.ask([*CARD, *video_args(choice.name, VideoEncoding(), fps=24), "-f", "null", "-"], timeout_s=60)
    assert done.code == 0
    assert bool(choice.reason) == (choice.name == "libx264")


async def test_a_failure_tells_its_cause_in_one_line(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    with pytest.raises(EncodeFailed) as caught:
        await ffmpeg.run([*CARD, "-vf", "nosuchfilter", str(tmp_path / "o.mp4")], name="card", doing="encoding")
    assert "No such filter: 'nosuchfilter'" in caught.value.info.message
    assert "\n" not in caught.value.info.message and "0x" not in caught.value.info.message


async def test_a_run_past_its_time_is_ended(started: Started, ffmpeg: FFmpeg) -> None:
    endless = ["-re", "-f", "lavfi", "-i", "testsrc2=s=64x64", "-f", "null", "-"]
    with pytest.raises(TaskTimedOut):
        await FFmpeg(ffmpeg.path, timeout_s=0.5).run(endless, name="card", doing="encoding")
    assert started() == []


async def test_standard_error_without_end_takes_bounded_memory() -> None:
    flood = "import sys\nfor i in range(200_000): sys.stderr.write('x' * 99 + '\\n')\nsys.stderr.write('y' * 10**7)"
    ended = await run_process([sys.executable, "-c", flood], timeout_s=60, on_stdout=lambda _: None)
    assert ended.code == 0 and len(ended.stderr) <= 200
    assert sum(map(len, ended.stderr)) < 500_000


async def test_a_child_that_stops_reading_ends_the_feed() -> None:
    def endless(pipe: object) -> None:
        while True:
            pipe.write(b"0" * 65536)

    ended = await run_process([sys.executable, "-c", "pass"], timeout_s=60, on_stdout=lambda _: None, feed=endless)
    assert ended.code == 0


async def test_a_feed_that_fails_ends_the_child(started: Started) -> None:
    def fail(pipe: object) -> None:
        raise ValueError("no picture")

    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(ValueError, match="no picture"):
        await run_process(sleeper, timeout_s=60, on_stdout=lambda _: None, feed=fail)
    assert started() == []


async def test_the_child_stays_in_the_group_that_is_killed_as_one() -> None:
    answer = bytearray()
    await run_process([sys.executable, "-c", "import os; print(os.getpgid(0))"], timeout_s=60, on_stdout=answer.extend)
    assert int(answer) == os.getpgid(0)


async def test_cancelling_waits_for_the_child_to_be_gone(started: Started) -> None:
    work = asyncio.create_task(
        run_process([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=60, on_stdout=lambda _: None)
    )
    async with asyncio.timeout(HANG_S):
        while not started():
            await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert started() == []


async def test_programs_are_found_or_their_lack_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_ffmpeg() == BUNDLED
    assert find_ffmpeg(BUNDLED) == BUNDLED
    with pytest.raises(ConfigError, match="is no program"):
        find_ffmpeg("/no/such/ffmpeg")
    with pytest.raises(EngineUnavailable):
        await run_process([str(tmp_path / "none")], timeout_s=5, on_stdout=lambda _: None)


@pytest.mark.parametrize(("given", "usable"), [(BUNDLED, True), ("/no/such/ffmpeg", False)])
def test_the_report_is_one_line_of_json(given: str, usable: bool) -> None:
    command = [sys.executable, "-m", "gpu_dispatch.worker.video.report", given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    report = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert (report["problem"] == "") == usable
    assert report["libass"] == report["libx264"] == usable
    assert bool(report["encoder"]) == usable
