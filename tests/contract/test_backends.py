"""What every backend keeps to, with real workers in processes of their own."""

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from gpu_dispatch.backend import JobRef
from gpu_dispatch.compression import unpacked
from gpu_dispatch.task import TranscribeParams, Videos
from gpu_dispatch.transcript import Transcript
from manifests.errors import EndpointUnavailable
from support.deadlines import HANG_S
from support.media import ffmpeg
from support.odd_worker import HUGE_WORDS
from support.places import Place


def decoded_frames(path: Path) -> int:
    done = subprocess.run(
        [ffmpeg(), "-nostdin", "-v", "error", "-i", str(path), "-map", "0:v:0", "-f", "framehash", "-"],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=True,
    )
    return sum(1 for line in done.stdout.splitlines() if line and not line.startswith("#"))


async def test_a_task_runs_and_leaves_its_outputs(place: Place) -> None:
    status = await place.result(place.film(frames=48))
    assert status.state == "completed" and status.result
    assert status.result.task_id == "film" and status.result.error is None
    assert status.result.execution_ms > 0 and status.result.delay_ms >= 0
    assert isinstance(status.result.payload, Videos)
    assert status.result.payload.files[0].frames == 48
    assert decoded_frames(place.output("film.mp4")) == 48


async def test_progress_never_falls_and_a_final_state_stays(odd_place: Place) -> None:
    job = await odd_place.backend.submit(odd_place.odd("rush"))
    final = await odd_place.until(job, final=True)
    assert final.state == "completed"
    percents = [s.progress.percent for s in odd_place.seen if s.progress]
    assert percents == sorted(percents) and percents
    order = ["queued", "running", "completed"]
    ranks = [order.index(s.state) for s in odd_place.seen]
    assert ranks == sorted(ranks)
    await odd_place.backend.cancel(job)
    assert await odd_place.backend.status(job, wait_s=HANG_S) == final


async def test_a_failure_keeps_its_code_hint_and_place(place: Place) -> None:
    task = place.join()
    missing = replace(task.inputs[0], url=place.files.missing())
    status = await place.result(replace(task, inputs=(missing, task.inputs[1])))
    assert status.state == "failed" and status.result and status.result.error
    error = status.result.error
    assert (error.code, error.where, error.retryable) == ("input_missing", "v.mp4", False)
    assert error.hint
    assert not place.output("joined.mp4").exists()
    assert (await place.result(place.join())).state == "completed"


async def test_a_queued_job_can_be_cancelled(place: Place) -> None:
    first = await place.backend.submit(place.film(frames=100_000))
    await place.until(first, stage="encode")
    second = await place.backend.submit(place.join())
    assert (await place.backend.status(second)).state == "queued"
    await place.backend.cancel(second)
    status = await place.until(second, final=True)
    assert status.state == "cancelled" and status.result and status.result.error
    assert status.result.error.code == "cancelled"
    assert (await place.backend.status(first)).state == "running"
    await place.backend.cancel(first)
    assert not place.output("joined.mp4").exists()


async def test_a_running_job_can_be_cancelled_and_nothing_of_it_goes_on(place: Place) -> None:
    job = await place.backend.submit(place.film(frames=100_000))
    await place.until(job, stage="encode")
    await place.backend.cancel(job)
    status = await place.until(job, final=True)
    assert status.state == "cancelled" and status.result and status.result.error
    await place.ended("ffmpeg")
    assert not place.output("film.mp4").exists()
    assert (await place.result(place.join())).state == "completed"


async def test_a_worker_that_ignores_a_cancel_is_ended(odd_place: Place) -> None:
    job = await odd_place.backend.submit(odd_place.odd("stubborn", timeout_s=8.0))
    await odd_place.until(job, stage="stubborn")
    await asyncio.wait_for(odd_place.backend.cancel(job), HANG_S)
    assert (await odd_place.until(job, final=True)).state == "cancelled"
    await odd_place.ended("sleep")
    assert (await odd_place.result(odd_place.odd("fine"))).state == "completed"


async def test_a_task_past_its_time_ends(place: Place) -> None:
    status = await place.result(place.film(frames=100_000, timeout_s=2.0))
    assert status.state == "timed_out" and status.result and status.result.error
    assert status.result.error.code == "task_timed_out"
    await place.ended("ffmpeg")


async def test_jobs_come_out_as_themselves(place: Place) -> None:
    frames = [5, 10, 15]
    jobs = [await place.backend.submit(place.film(frames=n, name=f"film{n}.mp4")) for n in frames]
    ends = await asyncio.gather(*(place.until(job, final=True) for job in jobs))
    assert [
        s.result.payload.files[0].frames for s in ends if s.result and isinstance(s.result.payload, Videos)
    ] == frames
    assert [decoded_frames(place.output(f"film{n}.mp4")) for n in frames] == frames


async def test_a_huge_result_arrives_whole(odd_place: Place) -> None:
    task = odd_place.odd("huge")
    result = odd_place.answer(task, await odd_place.result(task))
    result = unpacked(result) if result else None
    assert result and isinstance(result.payload, Transcript)
    words = result.payload.words
    assert len(words) == HUGE_WORDS and words[-1].text == f" word{HUGE_WORDS - 1}"


async def test_a_huge_task_arrives_whole(odd_place: Place) -> None:
    task = odd_place.odd("fine")
    huge = replace(task, params=TranscribeParams(audio="ü" * 15_000_000, model="fine"))
    assert (await odd_place.result(odd_place.stored(huge))).state == "completed"


async def test_two_hundred_outputs_arrive_each_as_itself(odd_place: Place) -> None:
    names = [f"clip{i:03}.mp4" for i in range(200)]
    status = await odd_place.result(odd_place.films(names))
    assert status.result and isinstance(status.result.payload, Videos)
    assert [file.name for file in status.result.payload.files] == names
    assert [odd_place.output(name).read_text() for name in names] == names


async def test_a_failed_task_may_be_sent_again_and_is_another_job(odd_place: Place) -> None:
    task = odd_place.odd("break")
    first = await odd_place.backend.submit(task)
    assert (await odd_place.until(first, final=True)).state == "failed"
    assert await odd_place.backend.restart(first) is False
    second = await odd_place.backend.submit(task)
    assert second.job_id != first.job_id
    assert (await odd_place.until(second, final=True)).state == "failed"
    assert (await odd_place.backend.status(first)).state == "failed"


async def test_what_a_library_prints_or_reads_does_no_harm(odd_place: Place) -> None:
    assert (await odd_place.result(odd_place.odd("chatter"))).state == "completed"


async def test_a_defect_is_a_worker_error(odd_place: Place) -> None:
    status = await odd_place.result(odd_place.odd("break"))
    assert status.state == "failed" and status.result and status.result.error
    assert status.result.error.code == "worker_error"
    assert (await odd_place.result(odd_place.odd("fine"))).state == "completed"


async def test_an_unknown_job_is_lost_and_cancelling_it_is_no_error(place: Place) -> None:
    unknown = JobRef(place.backend.name, "nvenc", "no-such-job")
    assert (await place.backend.status(unknown, wait_s=HANG_S)).state == "lost"
    await place.backend.cancel(unknown)


async def test_healthy_places_say_so(place: Place) -> None:
    health = await place.backend.health()
    assert health and all(line.ok and line.name and line.detail for line in health)


async def test_close_wakes_who_waits_and_leaves_only_what_outlives_it(odd_place: Place) -> None:
    backend = odd_place.backend
    patient = await backend.submit(odd_place.odd("patient"))
    await odd_place.until(patient, stage="patient")
    queued = await backend.submit(odd_place.odd("fine"))
    waiting = asyncio.create_task(odd_place.until(queued, final=True))
    await asyncio.sleep(0)
    await asyncio.wait_for(backend.close(), HANG_S)
    if backend.durable:
        with pytest.raises(EndpointUnavailable):
            await asyncio.wait_for(waiting, HANG_S)
        later = await odd_place.reopened()
        assert (await later.status(patient)).state == "running"
        await later.cancel(patient)
        assert (await odd_place.until(queued, final=True)).state == "completed"
    else:
        assert (await asyncio.wait_for(waiting, HANG_S)).final
        assert odd_place.workers() == []
