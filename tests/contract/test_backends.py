"""What every backend keeps to, with real workers in processes of their own."""

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

from gpu_dispatch.backend import JobRef
from gpu_dispatch.task import Transcript, Videos
from support.media import ffmpeg
from support.odd_worker import HUGE_WORDS
from support.places import HANG_S, Place


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
    missing = replace(task.inputs[0], url=task.inputs[0].url + ".missing")
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
    status = await place.backend.status(second)
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
    assert [p.name() for p in place.workers() if "ffmpeg" in p.name()] == []
    assert not place.output("film.mp4").exists()
    assert (await place.result(place.join())).state == "completed"


async def test_a_worker_that_ignores_a_cancel_is_ended(odd_place: Place) -> None:
    job = await odd_place.backend.submit(odd_place.odd("stubborn"))
    await odd_place.until(job, stage="stubborn")
    await asyncio.wait_for(odd_place.backend.cancel(job), HANG_S)
    assert (await odd_place.backend.status(job)).state == "cancelled"
    assert [p.name() for p in odd_place.workers() if p.name() == "sleep"] == []
    assert (await odd_place.result(odd_place.odd("fine"))).state == "completed"


async def test_a_task_past_its_time_ends(place: Place) -> None:
    status = await place.result(place.film(frames=100_000, timeout_s=2.0))
    assert status.state == "timed_out" and status.result and status.result.error
    assert status.result.error.code == "task_timed_out"
    assert [p.name() for p in place.workers() if "ffmpeg" in p.name()] == []


async def test_jobs_come_out_as_themselves(place: Place) -> None:
    frames = [5, 10, 15]
    jobs = [await place.backend.submit(place.film(frames=n, name=f"film{n}.mp4")) for n in frames]
    ends = await asyncio.gather(*(place.until(job, final=True) for job in jobs))
    assert [
        s.result.payload.files[0].frames for s in ends if s.result and isinstance(s.result.payload, Videos)
    ] == frames
    assert [decoded_frames(place.output(f"film{n}.mp4")) for n in frames] == frames


async def test_a_huge_result_arrives_whole(odd_place: Place) -> None:
    status = await odd_place.result(odd_place.odd("huge"))
    assert status.result and isinstance(status.result.payload, Transcript)
    words = status.result.payload.words
    assert len(words) == HUGE_WORDS and words[-1].text == f" word{HUGE_WORDS - 1}"


async def test_a_huge_task_arrives_whole(odd_place: Place) -> None:
    task = odd_place.odd("fine")
    huge = replace(task, params=replace(task.params, initial_prompt="ü" * 15_000_000))
    assert (await odd_place.result(huge)).state == "completed"


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


async def test_close_ends_everything_and_wakes_who_waits(odd_place: Place) -> None:
    stubborn = await odd_place.backend.submit(odd_place.odd("stubborn"))
    await odd_place.until(stubborn, stage="stubborn")
    queued = await odd_place.backend.submit(odd_place.odd("fine"))
    waiting = asyncio.create_task(odd_place.until(queued, final=True))
    await asyncio.sleep(0)
    await asyncio.wait_for(odd_place.backend.close(), HANG_S)
    assert (await asyncio.wait_for(waiting, HANG_S)).final
    assert odd_place.workers() == []
