"""An endpoint on RunPod, before a provider that behaves as RunPod does."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gpu_dispatch.backend import GpuBackend, JobRef, JobStatus
from gpu_dispatch.runpod.job_cache import PollInterval
from gpu_dispatch.task import Img2VidParams
from gpu_dispatch.transcript import Transcript
from gpu_dispatch.wire import task_from_wire
from manifests.errors import EndpointUnavailable, TaskRefused
from support.deadlines import HANG_S
from support.runpod import faults
from support.runpod.endpoint import Endpoint
from support.runpod.jobs import Auto
from support.runpod.queue import Provider, provider
from support.runpod_endpoints import EP, HEARD, ended, endpoint_of, settings, task

RARELY = PollInterval(first_s=3600.0, longest_s=3600.0)


@pytest.fixture
async def there() -> AsyncIterator[Provider]:
    async with provider() as p:
        yield p


@pytest.fixture
def quick(there: Provider) -> Endpoint:
    """Every job succeeds after a tenth of a second."""
    return there.endpoint(EP, auto=Auto(0.1, lambda job: HEARD, delay_s=0.1))


@pytest.fixture
def idle(there: Provider) -> Endpoint:
    """Nobody works there; tests move its jobs."""
    return there.endpoint(EP)


async def test_a_task_becomes_a_job_and_its_answer_a_result(there: Provider, quick: Endpoint) -> None:
    async with endpoint_of(there.url) as endpoint:
        backend: GpuBackend = endpoint
        assert backend.durable and not backend.claims and backend.name == "hub"
        job = await backend.submit(task("run-1/0"))
        assert job == JobRef("hub", EP, quick.job().id)
        assert (await backend.status(job)).state == "queued"
        final = await ended(endpoint, job)
    assert final.state == "completed" and final.result and isinstance(final.result.payload, Transcript)
    assert final.result.task_id == "run-1/0"
    assert final.result.execution_ms >= 100 and final.result.delay_ms >= 100
    assert quick.paid == 1


async def test_a_job_is_told_its_time_in_milliseconds(there: Provider, idle: Endpoint) -> None:
    given = settings(timeout_s=300.0, ttl_s=4000.0, low_priority=True)
    async with endpoint_of(there.url, given) as endpoint:
        await endpoint.submit(task(timeout_s=900.0))
    assert idle.job().policy == {"executionTimeout": 390_000, "ttl": 4_000_000, "lowPriority": True}
    assert idle.job().webhook is None


async def test_what_the_workers_cannot_do_is_not_sent(there: Provider, idle: Endpoint) -> None:
    async with endpoint_of(there.url) as endpoint:
        assert endpoint.refusal(Img2VidParams(clips=())) and not endpoint.refusal(task().params)
        with pytest.raises(TaskRefused):
            await endpoint.submit(task(params=Img2VidParams(clips=())))
    assert there.calls == []


async def test_a_task_larger_than_the_provider_takes_goes_by_way_of_the_store(there: Provider, idle: Endpoint) -> None:
    stored_at = "https://store.example/task?X-Amz-Signature=1"
    large = task().params.model_copy(update={"initial_prompt": "ü" * 6_000_000})
    async with endpoint_of(there.url, settings("gpudrop")) as endpoint:
        await endpoint.submit(task("big", params=large, stored_at=stored_at, trusted_hosts=("store.example",)))
        await endpoint.submit(task("small", stored_at=stored_at))
    first, second = idle.jobs.values()
    assert first.input == {"task_url": stored_at, "trusted_hosts": ["store.example"]}
    assert task_from_wire(second.input["task"]) == task("small", stored_at=stored_at)


@pytest.mark.parametrize("dialect", ["gpudrop", "worker-faster_whisper"])
async def test_a_task_that_is_too_large_for_every_way_is_refused(there: Provider, idle: Endpoint, dialect: str) -> None:
    huge = task(params=task().params.model_copy(update={"initial_prompt": "x" * 11_000_000}))
    async with endpoint_of(there.url, settings(dialect)) as endpoint:
        with pytest.raises(TaskRefused):
            await endpoint.submit(huge)
    assert there.calls == []


async def test_a_status_comes_as_soon_as_something_changes(there: Provider, idle: Endpoint) -> None:
    async with endpoint_of(there.url) as endpoint:
        job = await endpoint.submit(task())
        waiting = asyncio.create_task(endpoint.status(job, wait_s=HANG_S))
        async with asyncio.timeout(HANG_S):
            while len(there.of("status")) < 2:
                await asyncio.sleep(0.01)
        assert not waiting.done()
        idle.regress(idle.job(), {"percent": 10, "stage": "load"})
        assert (await asyncio.wait_for(waiting, HANG_S)).state == "running"


async def test_a_status_that_does_not_change_comes_when_the_wait_is_over(there: Provider, idle: Endpoint) -> None:
    async with endpoint_of(there.url, pace=RARELY) as endpoint:
        job = await endpoint.submit(task())
        assert await endpoint.status(job, wait_s=0.2) == JobStatus("queued")
    assert there.of("status") == []


async def test_progress_of_our_workers_is_told(there: Provider, idle: Endpoint) -> None:
    async with endpoint_of(there.url, settings("gpudrop")) as endpoint:
        job = await endpoint.submit(task())
        idle.regress(idle.job(), {"percent": 40, "stage": "transcribe"})
        moved = await endpoint.status(job, wait_s=HANG_S)
        assert moved.progress and (moved.progress.percent, moved.progress.stage) == (40, "transcribe")


async def test_another_process_finds_a_job_by_what_was_recorded(there: Provider, quick: Endpoint) -> None:
    async with endpoint_of(there.url) as before:
        job = await before.submit(task("run-1/0"))
    moved = settings(endpoint_id="another-endpoint-by-now")
    async with endpoint_of(there.url, moved) as after:
        final = await ended(after, job)
    assert final.state == "completed" and final.result and final.result.task_id == "run-1/0"


async def test_a_job_of_an_earlier_process_can_be_cancelled(there: Provider, idle: Endpoint) -> None:
    async with endpoint_of(there.url) as before:
        job = await before.submit(task())
    async with endpoint_of(there.url) as after:
        await after.cancel(job)
        status = await after.status(job)
    assert status.state == "cancelled" and idle.job().status == "CANCELLED"
    assert status.result and status.result.error and status.result.error.code == "cancelled"


@pytest.mark.parametrize("fault", [faults.too_many("0.1"), faults.failing(502), faults.html(), faults.reset()])
async def test_a_cancel_is_insisted_on(there: Provider, idle: Endpoint, fault: faults.Fault) -> None:
    there.faults.on("cancel", fault, times=2)
    async with endpoint_of(there.url) as endpoint:
        job = await endpoint.submit(task())
        await asyncio.wait_for(endpoint.cancel(job), HANG_S)
    assert idle.job().status == "CANCELLED"


async def test_a_cancel_that_nobody_takes_is_given_up_aloud(there: Provider, idle: Endpoint) -> None:
    there.faults.on("cancel", faults.failing(500), times=None)
    async with endpoint_of(there.url, settings(retry_for_s=0.1)) as endpoint:
        job = await endpoint.submit(task())
        with pytest.raises(EndpointUnavailable):
            await endpoint.cancel(job)


async def test_an_unknown_job_is_lost_and_cancelling_it_is_no_error(there: Provider, idle: Endpoint) -> None:
    async with endpoint_of(there.url) as endpoint:
        unknown = JobRef("hub", EP, "no-such-job")
        await endpoint.cancel(unknown)
        assert await endpoint.status(unknown, wait_s=HANG_S) == JobStatus("lost")
        await endpoint.cancel(unknown)
    assert len(there.of("status")) == 2


async def test_a_cancel_wakes_who_waits(there: Provider, idle: Endpoint) -> None:
    async with endpoint_of(there.url, pace=RARELY) as endpoint:
        job = await endpoint.submit(task())
        waiting = asyncio.create_task(endpoint.status(job, wait_s=HANG_S))
        await asyncio.sleep(0)
        await endpoint.cancel(job)
        assert (await asyncio.wait_for(waiting, HANG_S)).state == "cancelled"


async def test_closing_wakes_who_waits_and_leaves_the_job_alone(there: Provider, idle: Endpoint) -> None:
    async with endpoint_of(there.url, pace=RARELY) as endpoint:
        job = await endpoint.submit(task())
        waiting = asyncio.create_task(endpoint.status(job, wait_s=HANG_S))
        await asyncio.sleep(0)
        await endpoint.close()
        with pytest.raises(EndpointUnavailable):
            await asyncio.wait_for(waiting, HANG_S)
    assert idle.job().status == "IN_QUEUE" and there.of("cancel") == []


def failing_once(there: Provider) -> Endpoint:
    return there.endpoint(EP, auto=Auto(0.02, lambda job: HEARD if job.retries else {"error": "CUDA out of memory"}))


@pytest.mark.parametrize("answer", ["clear", "reset", "empty", "html"])
@pytest.mark.parametrize("taken", [True, False])
async def test_a_failed_job_runs_again_under_its_id(there: Provider, answer: str, taken: bool) -> None:
    place = failing_once(there)
    if answer != "clear":
        there.faults.on(
            "retry", {"reset": faults.reset, "empty": faults.empty, "html": faults.html}[answer](taken=taken)
        )
    async with endpoint_of(there.url) as endpoint:
        job = await endpoint.submit(task())
        assert (await ended(endpoint, job)).state == "failed"
        assert await asyncio.wait_for(endpoint.restart(job), HANG_S)
        final = await ended(endpoint, job)
    assert final.state == "completed" and final.result and final.result.task_id == "t1"
    assert len(place.jobs) == 1 and place.paid == 2


async def test_only_a_failed_job_of_workers_that_claim_nothing_runs_again(there: Provider, idle: Endpoint) -> None:
    async with endpoint_of(there.url) as endpoint:
        job = await endpoint.submit(task())
        assert await endpoint.restart(job), "it is in the queue already"
        assert not await endpoint.restart(JobRef("hub", EP, "no-such-job"))
    async with endpoint_of(there.url, settings("gpudrop")) as ours:
        assert not await ours.restart(job)
    assert there.of("retry") == []


async def test_health_is_one_line_and_explains_trouble(there: Provider, idle: Endpoint) -> None:
    async with endpoint_of(there.url) as endpoint:
        (line,) = await endpoint.health()
        assert line.ok and line.name == "hub"
        there.faults.on("health", faults.Fault(401), times=1)
        (refused,) = await endpoint.health()
        assert not refused.ok and not refused.serves and "key" in refused.detail and refused.remedy
        there.faults.on("health", faults.html(), times=1)
        (broken,) = await endpoint.health()
        assert not broken.ok and broken.serves and broken.remedy
    async with endpoint_of(there.url, settings(endpoint_id="gone")) as endpoint:
        (unknown,) = await endpoint.health()
    assert not unknown.ok and not unknown.serves and "gone" in unknown.detail and "id" in unknown.remedy


async def test_trouble_that_a_second_look_does_not_find_is_none(there: Provider, idle: Endpoint) -> None:
    there.faults.on("health", faults.Fault(200, '{"jobs": {"inQueue": 1}, "workers": {"idle": 0, "running": 0}}'))
    async with endpoint_of(there.url) as endpoint:
        (line,) = await endpoint.health()
    assert line.ok and len(there.of("health")) == 2


async def test_transient_trouble_is_waited_out_within_the_time_given(there: Provider, quick: Endpoint) -> None:
    async with endpoint_of(there.url) as endpoint:
        job = await endpoint.submit(task())
        for fault in (faults.failing(500), faults.html(), faults.reset_mid_body(), faults.empty()):
            there.faults.on("status", fault)
        assert (await ended(endpoint, job)).state == "completed"
        lost = JobRef("hub", EP, "other")
        there.faults.on("status", faults.failing(500), times=None)
        with pytest.raises(EndpointUnavailable):
            await endpoint.status(lost, wait_s=0.05)


async def test_results_are_kept_for_a_while_and_an_end_stays_an_end(
    there: Provider, quick: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with endpoint_of(there.url) as endpoint:
        jobs = [await endpoint.submit(task(f"t{i}")) for i in range(4)]
        ends = await asyncio.gather(*(ended(endpoint, job) for job in jobs))
        asked = len(there.of("status"))
        assert [await endpoint.status(job) for job in jobs] == ends and len(there.of("status")) == asked
        monkeypatch.setattr("gpu_dispatch.runpod.job_cache.KEPT_S", 0.0)
        late = await endpoint.submit(task("late"))
        end = await ended(endpoint, late)
        await asyncio.sleep(0.1)
        asked = len(there.of("status"))
        assert await endpoint.status(late) == end and len(there.of("status")) == asked + 1
        for job in quick.jobs.values():
            quick.regress(job)
        assert {(await endpoint.status(job)).state for job in (*jobs, late)} == {"completed"}


async def test_a_hundred_jobs_come_out_as_themselves_with_few_looks(there: Provider) -> None:
    place = there.endpoint(EP, auto=Auto(1.0, lambda job: HEARD | {"model": job.input["audio"][-12:]}))
    async with endpoint_of(there.url, pace=PollInterval()) as endpoint:

        async def one(number: int) -> tuple[str, str]:
            job = await endpoint.submit(task(f"t{number}"))
            final = await ended(endpoint, job)
            assert final.result and isinstance(final.result.payload, Transcript)
            return final.result.task_id, final.state

        ends = await asyncio.wait_for(asyncio.gather(*(one(i) for i in range(100))), HANG_S)
    assert ends == [(f"t{i}", "completed") for i in range(100)]
    assert place.paid == 100
    assert len(there.of("status")) < 500
