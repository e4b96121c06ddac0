"""One job in a folder of its own: what comes in, what is reported, what goes out, what is left."""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from gpu_dispatch.task import (
    AddAudioParams,
    GpuResult,
    GpuTask,
    Payload,
    Progress,
    TaskInput,
    TaskOutput,
    TaskParams,
    Videos,
)
from gpu_dispatch.worker.context import JobContext, Operation
from gpu_dispatch.worker.job import ProgressMeter, run_job
from manifests.errors import EncodeFailed
from support.deadlines import HANG_S

VIDEOS = Videos(files=(), encoder="copy")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("root", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "root" / "v.mp4").write_bytes(b"video")
    return tmp_path / "root"


def task(root: Path, *outputs: str) -> GpuTask:
    return GpuTask(
        task_id="t1",
        params=AddAudioParams(video="v.mp4", audio="a.mp3", output="out.mp4"),
        inputs=(TaskInput("v.mp4", (root / "v.mp4").as_uri()), TaskInput("a.mp3", "data:;base64,YXVkaW8=")),
        outputs=tuple(TaskOutput(name, (root / "done" / name).as_uri(), "video/mp4") for name in outputs),
    )


async def run(task: GpuTask, root: Path, work: Operation[TaskParams], told: list[Progress] | None = None) -> GpuResult:
    report = told.append if told is not None else lambda _: None
    return await run_job(task, operations=work, work_root=root.parent / "work", file_root=root, report=report)


async def joins(_: TaskParams, job: JobContext) -> Payload:
    job.report(Progress(50, "encode"))
    job.report(Progress(20, "encode"))
    job.path("out.mp4").write_bytes(job.path("v.mp4").read_bytes() + job.path("a.mp3").read_bytes())
    job.report(Progress(100, "encode"))
    return VIDEOS


def left_behind(root: Path) -> list[Path]:
    return list((root.parent / "work").iterdir())


async def test_a_job_leaves_its_outputs_and_nothing_else(root: Path) -> None:
    told: list[Progress] = []
    result = await run(task(root, "out.mp4"), root, joins, told)
    assert result.error is None and result.payload == VIDEOS and result.task_id == "t1"
    assert (root / "done" / "out.mp4").read_bytes() == b"videoaudio"
    assert (root / "v.mp4").read_bytes() == b"video"
    assert left_behind(root) == []
    percents = [p.percent for p in told]
    assert percents == sorted(percents) and percents[-1] == 100
    assert [p.percent for p in told if p.stage == "encode"] == [50, 90]
    assert {p.stage for p in told} == {"download", "encode", "upload"}


async def test_the_folder_is_private(root: Path) -> None:
    modes: list[int] = []

    async def look(params: TaskParams, job: JobContext) -> Payload:
        modes.append(job.folder.stat().st_mode & 0o777)
        return VIDEOS

    await run(task(root), root, look)
    assert modes == [0o700]


async def test_an_error_with_a_cause_keeps_it(root: Path) -> None:
    async def fails(_: TaskParams, job: JobContext) -> Payload:
        raise EncodeFailed("ffmpeg failed.", hint="Convert it.", where="v.mp4")

    result = await run(task(root), root, fails)
    assert result.payload is None
    assert result.error == EncodeFailed("ffmpeg failed.", hint="Convert it.", where="v.mp4").info
    assert left_behind(root) == []


async def test_a_missing_input_ends_the_job_before_its_work(root: Path) -> None:
    (root / "v.mp4").unlink()
    result = await run(task(root, "out.mp4"), root, joins)
    assert result.error and (result.error.code, result.error.where) == ("input_missing", "v.mp4")


async def test_a_defect_is_logged_in_full_and_told_in_short(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def breaks(_: TaskParams, job: JobContext) -> Payload:
        raise KeyError("/home/someone/secret")

    with caplog.at_level(logging.ERROR):
        result = await run(task(root), root, breaks)
    assert result.error and result.error.code == "worker_error" and not result.error.retryable
    assert "secret" not in str(result.error)
    assert "Traceback" in caplog.text and "/home/someone/secret" in caplog.text
    assert left_behind(root) == []


@pytest.mark.parametrize("content", [None, b""])
async def test_nothing_goes_out_before_everything_is_there(root: Path, content: bytes | None) -> None:
    async def half(params: TaskParams, job: JobContext) -> Payload:
        await joins(params, job)
        if content is not None:
            job.path("second.mp4").write_bytes(content)
        return VIDEOS

    result = await run(task(root, "out.mp4", "second.mp4"), root, half)
    assert result.error and (result.error.code, result.error.where) == ("worker_error", "second.mp4")
    assert not (root / "done").exists()


async def test_a_job_past_its_time_is_ended(root: Path) -> None:
    ended = asyncio.Event()

    async def hangs(_: TaskParams, job: JobContext) -> Payload:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return VIDEOS

    result = await run(replace(task(root), timeout_s=0.2), root, hangs)
    assert result.error and result.error.code == "task_timed_out"
    assert ended.is_set() and left_behind(root) == []


async def test_an_operations_own_timeout_is_not_the_tasks(root: Path) -> None:
    async def slow(_: TaskParams, job: JobContext) -> Payload:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)
        return VIDEOS

    result = await run(task(root), root, slow)
    assert result.error and result.error.code == "worker_error"


async def test_cancellation_is_passed_on_after_cleaning_up(root: Path) -> None:
    started = asyncio.Event()

    async def hangs(_: TaskParams, job: JobContext) -> Payload:
        started.set()
        await asyncio.sleep(60)
        return VIDEOS

    work = asyncio.create_task(run(task(root), root, hangs))
    await asyncio.wait_for(started.wait(), HANG_S)
    assert left_behind(root) != []
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(work, HANG_S)
    assert left_behind(root) == []


async def test_nothing_is_reported_after_the_end(root: Path) -> None:
    told: list[Progress] = []
    kept: list[JobContext] = []

    async def keeps(params: TaskParams, job: JobContext) -> Payload:
        kept.append(job)
        return VIDEOS

    await run(task(root), root, keeps, told)
    told.clear()
    kept[0].report(Progress(100, "late"))
    assert told == []


def test_a_thousand_small_moves_are_told_in_few_steps() -> None:
    told: list[Progress] = []
    meter = ProgressMeter(told.append)
    for i in range(10_001):
        meter.update((10, 90), Progress(i / 100, "encode"))
    assert len(told) <= 161
    assert told[-1] == Progress(90.0, "encode")


async def test_a_full_disk_is_no_defect_and_another_worker_may_have_more(root: Path) -> None:
    async def fills(_: TaskParams, job: JobContext) -> Payload:
        job.path("out.mp4").symlink_to("/dev/full")
        job.path("out.mp4").write_bytes(b"video")
        return VIDEOS

    result = await run(task(root, "out.mp4"), root, fills)
    assert result.error and result.error.retryable and "disk is full" in result.error.message
    assert left_behind(root) == []
