"""The worker as RunPod runs it: the real SDK, a real process, real ffmpeg, a provider that keeps to RunPod's words."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from aiohttp import web

from gpu_dispatch.task import Clip, GpuResult, GpuTask, Img2VidParams, TaskInput, TranscribeParams, Videos
from gpu_dispatch.wire import result_from_wire, task_to_wire
from gpu_dispatch.worker.job import ExecutionOutcome
from gpu_dispatch.worker.serverless import INLINE_BYTES, QUEUE_BYTES, wire
from support.deadlines import HANG_S
from support.media import Media
from support.odd_worker import transcript
from support.processes import name_of
from support.runpod import processes
from support.runpod.endpoint import Endpoint
from support.runpod.jobs import Job
from support.runpod.queue import Provider, provider

SIGNED = "?X-Amz-Credential=who&X-Amz-Signature=topsecret"


@dataclass
class Desk:
    """Where jobs are handed in."""

    provider: Provider
    endpoint: Endpoint
    session: aiohttp.ClientSession

    async def send(self, data: Any) -> Job:
        policy = {"executionTimeout": 600_000}
        async with self.session.post(self._at("run"), json={"input": data, "policy": policy}) as answer:
            return self.endpoint.jobs[(await answer.json())["id"]]

    async def until(self, job: Job, condition: Callable[[Job], object]) -> Job:
        await self.endpoint.until(lambda: condition(job), HANG_S)
        return job

    async def done(self, data: Any) -> Job:
        return await self.until(await self.send(data), lambda job: job.final)

    async def cancel(self, job: Job) -> None:
        async with self.session.post(self._at(f"cancel/{job.id}")) as answer:
            assert answer.status == 200

    def _at(self, path: str) -> str:
        return f"{self.provider.url}/{self.endpoint.id}/{path}"


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with provider() as serving:
        headers = {"Authorization": f"Bearer {serving.api_key}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            yield Desk(serving, serving.endpoint("ep"), session)


def film(media: Media, frames: int = 48, *, timeout_s: float = 600.0) -> GpuTask:
    image = base64.b64encode(media.image(suffix=".jpg").read_bytes()).decode()
    params = Img2VidParams(clips=(Clip("i.jpg", "clip.mp4", frames),), width=320, height=180)
    return GpuTask("film", params, (TaskInput("i.jpg", f"data:;base64,{image}"),), timeout_s=timeout_s)


def hang(timeout_s: float) -> GpuTask:
    return GpuTask("hang", TranscribeParams(audio="a", model="hang"), (), timeout_s=timeout_s)


def given(task: GpuTask) -> Any:
    return {"task": task_to_wire(task)}


def result(job: Job) -> GpuResult:
    return result_from_wire(job.output["result"])


def ffmpegs(pid: int) -> list[psutil.Process]:
    return [p for p in psutil.Process(pid).children(recursive=True) if "ffmpeg" in name_of(p)]


@asynccontextmanager
async def lying(document: bytes) -> AsyncIterator[str]:
    """host:port of a server with `document` at every address."""
    app = web.Application()

    async def serve(_: web.Request) -> web.Response:
        return web.Response(body=document)

    app.router.add_get("/{any:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_jobs_of_every_kind_end_as_the_dispatcher_expects(desk: Desk, media: Media) -> None:
    async with desk.endpoint.worker("real", GPUDROP_CAPABILITIES="nvenc", RUNPOD_LOG_LEVEL="DEBUG") as worker:
        job = await desk.done(given(film(media)))
        assert job.status == "COMPLETED" and job.error is None
        made = result(job).payload
        assert isinstance(made, Videos) and made.files[0].frames == 48
        assert set(job.progress[0]) == {"percent", "stage"}

        overdue = await desk.done(given(film(media, 100_000, timeout_s=2.0)))
        error = result(overdue).error
        assert overdue.status == "FAILED" and error and error.code == "task_timed_out" and error.hint
        assert overdue.error == f"task_timed_out: {error.message}"
        assert ffmpegs(worker.pids[0]) == []

        missing = replace(film(media), inputs=(TaskInput("i.jpg", f"http://127.0.0.1:9/i.jpg{SIGNED}"),))
        error = result(await desk.done(given(missing))).error
        assert error and error.code == "address_not_allowed"

        other = await desk.done(given(GpuTask("speech", TranscribeParams(audio="a"), ())))
        error = result(other).error
        assert error and error.code == "engine_unavailable" and "whisper" in error.message
        assert "topsecret" not in worker.log and "Traceback" not in worker.log


@pytest.mark.parametrize(
    "data",
    [
        {"something": 1},
        {"task": {"task_id": "x"}},
        {"task": {"task_id": "x", "inputs": f"https://a.example/i.jpg{SIGNED}"}},
        {"task": {}, "task_url": "https://a.example/"},
        {"task_url": f"http://127.0.0.1:9/task{SIGNED}"},
        {"task_url": "file:///etc/passwd"},
        {"task_url": 7},
    ],
    ids=["nothing", "half", "wrong", "both", "private", "file", "number"],
)
async def test_input_that_is_no_task_is_refused_in_one_sentence(data: Any, refusals: Any) -> None:
    output = await refusals(data)
    assert set(output) == {"result", "error"}
    error = result_from_wire(output["result"]).error
    assert error and error.code in ("task_refused", "address_not_allowed", "invalid_path") and error.hint
    assert output["error"] == f"{error.code}: {error.message}"
    assert "topsecret" not in json.dumps(output) and "Traceback" not in json.dumps(output)


@pytest.fixture
def refusals(tmp_path: Path) -> Any:
    """The handler itself: what is refused never reaches an operation."""
    from gpu_dispatch.worker.environment import settings_from
    from gpu_dispatch.worker.serverless import ServerlessJobs

    async def never(*_: Any) -> Any:
        raise AssertionError("work was begun")

    jobs = ServerlessJobs(
        never,
        settings_from({"GPUDROP_WORK_ROOT": str(tmp_path)}),
        post=never,
        idle=never,
        refresh=lambda: None,
        end=lambda: None,
    )
    return lambda data: jobs({"id": "j", "input": data})


async def test_a_task_that_lies_in_the_store_is_fetched(desk: Desk, media: Media) -> None:
    document = json.dumps(task_to_wire(film(media))).encode()
    async with lying(document) as host, desk.endpoint.worker("real"):
        url = f"http://{host}/task.json{SIGNED}"
        assert (await desk.done({"task_url": url, "trusted_hosts": [host]})).status == "COMPLETED"
        error = result(await desk.done({"task_url": url})).error
        assert error and error.code == "address_not_allowed"


async def test_a_cancelled_job_ends_with_its_ffmpeg_and_the_worker_goes_on(desk: Desk, media: Media) -> None:
    async with desk.endpoint.worker("real") as worker:
        job = await desk.send(given(film(media, 100_000)))
        await desk.until(job, lambda job: any(each["stage"] == "encode" for each in job.progress))
        working = ffmpegs(worker.pids[0])
        assert working
        await desk.cancel(job)
        _, alive = await asyncio.to_thread(psutil.wait_procs, working, HANG_S)
        assert alive == [] and job.executions[0].outcome == "stopped"
        assert (await desk.done(given(film(media)))).status == "COMPLETED"
        assert worker.started == 1


async def test_no_progress_arrives_after_the_result(desk: Desk) -> None:
    """Each of these reports twenty thousand times in no time at all."""
    async with desk.endpoint.worker("odd"):
        for _ in range(5):
            job = await desk.done(given(GpuTask("rush", TranscribeParams(audio="a", model="rush"), ())))
            told = len(job.progress)
            await asyncio.sleep(0.3)
            assert job.status == "COMPLETED" and len(job.progress) == told <= 3


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(processes.MODULES, "sdk", "support.hanging_worker")  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("hanging")
async def test_a_worker_with_a_thread_that_hangs_answers_and_is_replaced(desk: Desk) -> None:
    async with desk.endpoint.worker("sdk", restart=True, GPUDROP_STOP_GRACE_S="0.5") as worker:
        job = await desk.done(given(hang(1.0)))
        assert job.status == "FAILED" and job.output["result"]["error"]["code"] == "task_timed_out"
        fine = await desk.done(given(replace(hang(60.0), params=TranscribeParams(audio="a", model="fine"))))
        assert fine.status == "COMPLETED" and fine.worker != job.worker
        assert worker.started == 2


@pytest.mark.usefixtures("hanging")
async def test_a_cancelled_job_whose_thread_hangs_takes_its_worker_with_it(desk: Desk) -> None:
    async with desk.endpoint.worker("sdk", restart=True, GPUDROP_STOP_GRACE_S="0.5") as worker:
        job = await desk.send(given(hang(600.0)))
        await desk.until(job, lambda job: job.progress)
        await desk.cancel(job)
        fine = await desk.done(given(replace(hang(60.0), params=TranscribeParams(audio="a", model="fine"))))
        assert fine.status == "COMPLETED" and fine.worker != job.executions[0].worker
        assert worker.started == 2


async def test_a_worker_whose_loop_stands_still_ends_when_the_job_is_overdue(desk: Desk) -> None:
    desk.endpoint.after_crash = "fail"
    async with desk.endpoint.worker("odd", restart=True, GPUDROP_STOP_GRACE_S="0.5") as worker:
        stubborn = GpuTask("s", TranscribeParams(audio="a", model="stubborn"), (), timeout_s=1.0)
        before = worker.pids[0]
        job = await desk.done(given(stubborn))
        assert job.status == "FAILED" and job.executions[0].outcome == "crashed"
        assert not psutil.pid_exists(before)


async def test_an_unfit_worker_says_why_in_one_line_and_takes_no_job(desk: Desk) -> None:
    async with desk.endpoint.worker("real", GPUDROP_REQUIRE_NVENC="1", GPUDROP_FFMPEG="/bin/false") as worker:
        assert worker.pids == [] and desk.endpoint.workers == set()
        lines = [line for line in worker.log.splitlines() if "Fitness check failed" in line]
    assert len(lines) == 1 and "nvenc" in lines[0] and "NVENC does not work here" in lines[0]


def large(size: int) -> GpuResult:
    return GpuResult("t", payload=transcript("x" * size))


def test_a_large_result_that_is_stored_is_not_sent_as_well() -> None:
    assert wire(ExecutionOutcome(large(INLINE_BYTES), stored=True)) == {"answer": "stored"}
    assert "result" in wire(ExecutionOutcome(large(INLINE_BYTES), stored=False))
    assert "result" in wire(ExecutionOutcome(large(1000), stored=True))


def test_a_result_nothing_can_carry_is_an_error_that_may_be_tried_again() -> None:
    body = wire(ExecutionOutcome(large(QUEUE_BYTES), stored=False))
    error = result_from_wire(body["result"]).error
    assert error and error.code == "transfer_failed" and error.retryable
