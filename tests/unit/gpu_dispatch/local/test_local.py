"""What only children on this machine can show: crashes, warmth, inheritance, and the death of their owner."""

import asyncio
import json
import logging
import math
import os
import signal
import subprocess
import sys
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from gpu_dispatch.backend import JobStatus
from gpu_dispatch.local.backend import LocalBackend
from gpu_dispatch.local.child import ScratchFolder, WorkerProcess
from gpu_dispatch.local.settings import LocalSettings, child_command, child_environment
from gpu_dispatch.protocol import DoneReport, report_from_line, report_line
from gpu_dispatch.task import (
    GpuResult,
    GpuTask,
    TaskInput,
    TranscribeParams,
)
from gpu_dispatch.transcript import Segment, Transcript, Word
from manifests.errors import EngineUnavailable, ErrorInfo
from support.deadlines import HANG_S
from support.exchange import FolderFiles
from support.media import Media
from support.places import Operations, Place, local_place
from support.processes import name_of


class Open(Protocol):
    def __call__(self, operations: Operations, **settings: object) -> AbstractAsyncContextManager[Place]: ...


@pytest.fixture
def opened(tmp_path: Path, media: Media) -> Open:
    return lambda operations, **settings: local_place(tmp_path, media, operations, **settings)


def error_of(status: JobStatus) -> ErrorInfo:
    assert status.result and status.result.error, status
    return status.result.error


def transcript_of(status: JobStatus) -> Transcript:
    assert status.result and isinstance(status.result.payload, Transcript), status
    return status.result.payload


def pid_of(status: JobStatus) -> int:
    return int(transcript_of(status).engine)


async def until_gone(processes: list[psutil.Process]) -> None:
    """A deadline against hangs only."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, HANG_S)
    assert alive == []


async def test_a_child_that_is_killed_costs_one_job(opened: Open) -> None:
    async with opened("real") as place:
        job = await place.backend.submit(place.film(frames=100_000))
        await place.until(job, stage="encode")
        group = place.workers()
        child = next(p for p in group if "gpu_dispatch.worker.child" in " ".join(p.cmdline()))
        assert any("ffmpeg" in name_of(p) for p in group)
        child.kill()
        status = await place.until(job, final=True)
        error = error_of(status)
        assert (status.state, error.code, error.retryable) == ("failed", "worker_crashed", True)
        await until_gone(group)
        assert (await place.result(place.join())).state == "completed"


async def test_a_crash_is_told_with_the_last_words(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gpu_dispatch.worker"):
        async with opened("odd") as place:
            error = error_of(await place.result(place.odd("die")))
    assert error.code == "worker_crashed" and "the last words" in error.hint
    assert "the last words" in caplog.text


@pytest.mark.model
async def test_speech_is_recognised_by_a_model_of_the_folder(opened: Open, media: Media, model_dir: Path) -> None:
    async with opened("real", model_dir=model_dir, allow_download=False) as place:
        url = place.files.address(media.speech("The quick brown fox jumps over the lazy dog."))
        params = TranscribeParams(audio="a.wav", model="tiny.en", engine="faster-whisper", language="en")
        status = await place.result(GpuTask("speech", params, (TaskInput("a.wav", url),)))
    text = transcript_of(status).text
    assert "quick" in text and "lazy" in text
    assert status.progress and status.progress.percent == 100.0


async def test_children_stay_warm_but_not_after_a_defect(opened: Open) -> None:
    async with opened("odd") as place:
        first, second = [pid_of(await place.result(place.odd("fine"))) for _ in range(2)]
        assert error_of(await place.result(place.odd("break"))).code == "worker_error"
        third = pid_of(await place.result(place.odd("fine")))
    assert first == second != third


async def test_a_cancelled_job_leaves_its_child_warm(opened: Open) -> None:
    async with opened("odd") as place:
        before = pid_of(await place.result(place.odd("fine")))
        job = await place.backend.submit(place.odd("patient"))
        await place.until(job, stage="patient")
        await place.backend.cancel(job)
        assert (await place.backend.status(job)).state == "cancelled"
        assert pid_of(await place.result(place.odd("fine"))) == before


async def test_a_child_without_work_gives_its_memory_back(opened: Open) -> None:
    async with opened("odd", idle_s=0.2) as place:
        await place.result(place.odd("fine"))
        await until_gone(place.workers())
        assert (await place.result(place.odd("fine"))).state == "completed"


async def test_a_hung_worker_is_ended_at_the_deadline(opened: Open) -> None:
    async with opened("odd", timeout_grace_s=0.3) as place:
        job = await place.backend.submit(place.odd("stubborn", timeout_s=0.3))
        await place.until(job, stage="stubborn")
        group = place.workers()
        status = await place.until(job, final=True)
        assert (status.state, error_of(status).code) == ("timed_out", "task_timed_out")
        await until_gone(group)


async def test_a_defect_costs_the_job_in_hand_and_not_its_slot(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """No line to the child can carry half a character; nothing in the way of a slot expects that."""
    async with opened("odd") as place:
        before = pid_of(await place.result(place.odd("fine")))
        unspeakable = replace(place.odd("fine"), trusted_hosts=("\ud800",))
        broken = await place.backend.submit(unspeakable)
        waiting = await place.backend.submit(place.odd("fine"))
        status = await place.until(broken, final=True)
        assert (status.state, error_of(status).code) == ("failed", "worker_error")
        assert pid_of(await place.until(waiting, final=True)) != before, "its child may be in a bad state"
        assert len(place.workers()) == 1
    assert "Traceback" in caplog.text


async def test_a_slot_whose_child_cannot_even_be_asked_for_comes_back(opened: Open) -> None:
    async with opened("odd", ffmpeg="ff\0mpeg") as place:
        for _ in range(2):
            assert error_of(await place.result(place.odd("fine"))).code == "worker_error"


async def test_slots_run_side_by_side(opened: Open) -> None:
    async with opened("odd", slots={"whisper": 2}) as place:
        jobs = [await place.backend.submit(place.odd("patient")) for _ in range(3)]
        for job in jobs[:2]:
            assert (await place.until(job, stage="patient")).state == "running"
        assert (await place.backend.status(jobs[2])).state == "queued"
        await place.backend.cancel(jobs[0])
        assert (await place.until(jobs[2], stage="patient")).state == "running"


async def test_a_kind_without_slots_is_refused(opened: Open) -> None:
    async with opened("odd", slots={"nvenc": 1, "whisper": 0}) as place:
        with pytest.raises(EngineUnavailable, match="whisper"):
            await place.backend.submit(place.odd("fine"))


@pytest.mark.parametrize("python", ["/nonexistent/python", "/bin/false"])
async def test_a_worker_that_cannot_start_is_said_to_be_so(tmp_path: Path, media: Media, python: str) -> None:
    backend = LocalBackend(LocalSettings(python=python, work_parent=tmp_path), environ=os.environ)
    place = Place(backend, media, FolderFiles(tmp_path))
    await backend.start()
    try:
        status = await place.result(place.odd("fine"))
        assert (status.state, error_of(status).code) == ("failed", "engine_unavailable")
        whisper = next(line for line in await backend.health() if "whisper" in line.name)
        assert not whisper.ok and whisper.remedy
    finally:
        await backend.close()


async def test_results_with_a_payload_are_kept_for_a_while(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_dispatch.local.backend.KEPT_S", 0.0)
    async with opened("odd") as place:
        failed = await place.backend.submit(place.odd("break"))
        done = await place.backend.submit(place.odd("fine"))
        assert transcript_of(await place.until(done, final=True)).text == "fine"
        async with asyncio.timeout(HANG_S):
            while (await place.backend.status(done)).state != "lost":
                await asyncio.sleep(0.01)
        assert (await place.backend.status(failed)).state == "failed"


def test_numbers_that_are_none_pass_the_line_of_a_child() -> None:
    """A model may give a window no probability; that is no reason to lose the recording."""
    segment = Segment(0, 0.0, 1.0, "x", (Word("x", 0.0, math.inf, 0.9),), avg_logprob=-math.inf)
    said = DoneReport("j", GpuResult("t", Transcript("en", 1.0, 1.0, (segment,), "m", "e", "cpu")))
    assert report_from_line(report_line(said)) == said


async def test_old_results_are_forgotten(opened: Open) -> None:
    async with opened("odd", keep_results=1) as place:
        jobs = [await place.backend.submit(place.odd("fine")) for _ in range(2)]
        await place.until(jobs[1], final=True)
        assert [(await place.backend.status(job)).state for job in jobs] == ["lost", "completed"]


async def test_nothing_stays_on_the_disk(opened: Open, tmp_path: Path) -> None:
    async with opened("real") as place:
        job = await place.backend.submit(place.film(frames=100_000))
        await place.until(job, stage="encode")
        assert list((tmp_path / "work").rglob("job-*")) != []
    assert list((tmp_path / "work").iterdir()) == []


def test_rooms_of_dead_owners_are_removed(tmp_path: Path) -> None:
    script = "import sys, os; from pathlib import Path; from gpu_dispatch.local.child import ScratchFolder; "
    script += "(ScratchFolder(Path(sys.argv[1])).path / 'left').touch(); os._exit(1)"
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=HANG_S, check=False)
    assert len(list(tmp_path.rglob("left"))) == 1
    first = ScratchFolder(tmp_path)
    second = ScratchFolder(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([first.path, second.path])
    first.close()
    second.close()
    assert list(tmp_path.iterdir()) == []


async def test_children_inherit_no_secrets(tmp_path: Path, media: Media) -> None:
    secrets = ("AWS_SECRET_ACCESS_KEY", "MINIO_ROOT_PASSWORD", "RUNPOD_API_KEY", "GPUDROP_WEBHOOK_TOKEN", "HF_TOKEN")
    environ = {**os.environ, **dict.fromkeys(secrets, "s3cr3t"), "DATABASE_URL": "postgresql://u:s3cr3t@h/d"}
    async with local_place(tmp_path, media, "odd", environ=environ) as place:
        inherited = json.loads(transcript_of(await place.result(place.odd("environment"))).text)
    assert "s3cr3t" not in inherited.values() and inherited["PATH"] == os.environ["PATH"]
    assert not any("s3cr3t" in value for value in inherited.values())


def test_an_owners_own_thread_count_wins() -> None:
    assert child_environment({}, 3)["OMP_NUM_THREADS"] == "3"
    assert child_environment({"OMP_NUM_THREADS": "1"}, 3)["OMP_NUM_THREADS"] == "1"


async def test_a_child_whose_end_was_cut_short_is_ended_by_the_next_who_asks(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    child = await WorkerProcess.start(
        child_command(LocalSettings(), folder), environ=child_environment({}, 1), work_root=folder
    )
    process = psutil.Process(child.pid)
    first = asyncio.create_task(child.end())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    await child.end()
    assert not folder.exists() and not process.is_running()


async def test_nothing_is_left_of_a_child_that_was_being_ended_when_its_backend_closed(opened: Open) -> None:
    """Its worker met a defect, and is being ended as soon as its job has."""
    before = asyncio.all_tasks()
    async with opened("odd") as place:
        assert (await place.result(place.odd("break"))).state == "failed"
    assert asyncio.all_tasks() <= before


async def test_a_child_whose_end_is_cut_short_with_the_event_loops_leaves_no_pipe_open(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    open_before = psutil.Process().num_fds()
    folder = tmp_path / "work"
    child = await WorkerProcess.start(
        child_command(LocalSettings(), folder), environ=child_environment({}, 1), work_root=folder
    )
    ending = asyncio.create_task(child.end())
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - before
    assert ending in others
    for task in others:
        task.cancel()
    await asyncio.wait(others)
    async with asyncio.timeout(HANG_S):
        while psutil.Process().num_fds() > open_before:
            await asyncio.sleep(0.01)


PARENT = """
import asyncio, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.media import Media
from support.places import local_place

async def main():
    folder = Path(sys.argv[2])
    async with local_place(folder, Media(folder), "real") as place:
        job = await place.backend.submit(place.film(frames=100_000))
        await place.until(job, stage="encode")
        print("working", flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM])
async def test_when_the_owner_dies_everything_dies(tmp_path: Path, way: signal.Signals) -> None:
    tests = str(Path(__file__).parents[3])
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, tests, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout
    assert await asyncio.wait_for(owner.stdout.readline(), HANG_S) == b"working\n"
    group = psutil.Process(owner.pid).children(recursive=True)
    assert any("ffmpeg" in name_of(p) for p in group)
    owner.send_signal(way)
    await asyncio.wait_for(owner.wait(), HANG_S)
    await until_gone(group)
