"""What a dispatcher must survive, by its number: what the client makes of it, and how often was paid."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gpu_dispatch.backend import JobRef, JobStatus
from gpu_dispatch.runpod.job_cache import PollInterval
from gpu_dispatch.runpod.webhook import WebhookHints
from gpu_dispatch.task import GpuResult, GpuTask
from gpu_dispatch.transcript import Segment, Transcript
from gpu_dispatch.wire import result_to_wire
from manifests.errors import EncodeFailed, SubmitUnknown
from support.deadlines import HANG_S
from support.runpod import faults
from support.runpod.endpoint import Endpoint
from support.runpod.jobs import Auto, Job
from support.runpod.queue import Provider, provider
from support.runpod_endpoints import EP, HEARD, ended, endpoint_of, settings, task


@pytest.fixture
async def there() -> AsyncIterator[Provider]:
    async with provider() as p:
        yield p


@pytest.fixture
def quick(there: Provider) -> Endpoint:
    return there.endpoint(EP, auto=Auto(0.05, lambda job: HEARD))


@pytest.fixture
def idle(there: Provider) -> Endpoint:
    return there.endpoint(EP)


async def test_1_a_result_that_expired_is_lost_whatever_the_endpoint_is_called_by_now(
    there: Provider, quick: Endpoint
) -> None:
    async with endpoint_of(there.url) as endpoint:
        job = await endpoint.submit(task())
        await quick.until(lambda: quick.job().final, HANG_S)
        quick.expire(quick.job())
    async with endpoint_of(there.url, settings(endpoint_id="renamed")) as later:
        assert await later.status(job, wait_s=HANG_S) == JobStatus("lost")
    assert quick.paid == 1 and len(there.of("run")) == 1


async def test_1_a_404_for_a_job_just_sent_is_not_yet_an_end(there: Provider, quick: Endpoint) -> None:
    missing = faults.Fault(404, '{"error": "job not found"}')
    there.faults.on("status", missing, times=4)
    async with endpoint_of(there.url, settings(visibility_grace_s=HANG_S)) as endpoint:
        job = await endpoint.submit(task())
        assert (await ended(endpoint, job)).state == "completed"
    assert there.faults.met == ["status"] * 4


async def test_1_one_404_for_an_old_job_is_not_believed(there: Provider, idle: Endpoint) -> None:
    there.faults.on("status", faults.html(404))
    async with endpoint_of(there.url) as endpoint:
        job = await endpoint.submit(task())
        assert (await endpoint.status(job, wait_s=0.1)).state == "queued"


async def test_2_a_job_that_its_ttl_deleted_while_it_ran_is_lost(there: Provider) -> None:
    place = there.endpoint(EP, auto=Auto(HANG_S, lambda job: HEARD, delay_s=0.3))
    place.scale = 0.01
    async with endpoint_of(there.url, settings(ttl_s=70.0)) as endpoint:
        job = await endpoint.submit(task(timeout_s=5.0))
        assert place.job().policy == {"executionTimeout": 95_000, "ttl": 95_000}
        place.scale = 1.0
        assert (await endpoint.status(job, wait_s=HANG_S)).state == "running"
        assert (await ended(endpoint, job)).state == "lost"


async def test_3_a_job_that_is_executed_twice_ends_once(there: Provider, quick: Endpoint) -> None:
    quick.twice = True
    async with endpoint_of(there.url) as endpoint:
        job = await endpoint.submit(task())
        final = await ended(endpoint, job)
        assert await endpoint.status(job, wait_s=HANG_S) == final
    assert final.state == "completed" and len(there.of("run")) == 1


async def test_4_completed_without_output_has_no_result_to_believe_in(there: Provider, quick: Endpoint) -> None:
    quick.drop_output = True
    async with endpoint_of(there.url) as endpoint:
        assert await ended(endpoint, await endpoint.submit(task())) == JobStatus("completed")


async def test_5_a_late_progress_post_leaves_a_job_to_the_callers_deadline(there: Provider, quick: Endpoint) -> None:
    quick.late_progress = True
    async with endpoint_of(there.url) as endpoint:
        job = await endpoint.submit(task())
        assert (await ended(endpoint, job, within_s=0.5)).state == "running"
        await endpoint.cancel(job)
        assert (await endpoint.status(job)).state == "cancelled"


async def test_5_an_end_that_was_seen_survives_a_late_progress_post(there: Provider, quick: Endpoint) -> None:
    async with endpoint_of(there.url) as endpoint:
        job = await endpoint.submit(task())
        final = await ended(endpoint, job)
        quick.regress(quick.job(), {"percent": 99})
        assert await endpoint.status(job, wait_s=0.2) == final


@pytest.mark.parametrize(
    ("workers", "said"),
    [({}, "No worker"), ({"throttled": 2}, "throttled"), ({"unhealthy": 2}, "crash")],
)
async def test_6_a_job_that_stays_in_the_queue_is_explained_by_the_endpoints_health(
    there: Provider, workers: dict[str, int], said: str
) -> None:
    place = there.endpoint(EP, workers_max=0)
    place.health_workers = workers
    async with endpoint_of(there.url) as endpoint:
        job = await endpoint.submit(task())
        assert await endpoint.status(job, wait_s=0.2) == JobStatus("queued")
        (line,) = await endpoint.health()
        assert not line.ok and said in line.detail and line.remedy
        assert line.serves is (said == "throttled")
        await endpoint.cancel(job)
        assert (await endpoint.status(job)).state == "cancelled"
    assert place.paid == 0


async def test_7_a_poison_job_ends_with_its_time_and_is_sent_once(there: Provider) -> None:
    place = there.endpoint(EP, auto=Auto(HANG_S, lambda job: HEARD))
    place.scale = 0.005
    async with endpoint_of(there.url) as endpoint:
        job = await endpoint.submit(task(timeout_s=5.0))
        final = await ended(endpoint, job)
    assert final.state == "timed_out" and final.result and final.result.error
    assert final.result.error.code == "task_timed_out" and final.result.execution_ms > 0
    assert len(there.of("run")) == 1 and there.of("retry") == []


async def test_8_a_cancelled_job_whose_worker_goes_on_is_cancelled_all_the_same(
    there: Provider, idle: Endpoint
) -> None:
    async with endpoint_of(there.url) as endpoint:
        job = await endpoint.submit(task())
        await endpoint.cancel(job)
        idle.regress(idle.job(), {"percent": 30, "stage": "encode"})
        status = await endpoint.status(job, wait_s=HANG_S)
    assert status.state == "cancelled" and status.result and status.result.error


DIALECTS = ["whisper-hub", "gpudrop"]


def heard(dialect: str, task_id: str = "t1") -> dict[str, Any]:
    """What a worker answers that has done the task."""
    if dialect != "gpudrop":
        return HEARD
    done = Transcript("en", 1.0, 1.0, (Segment(0, 0.0, 1.0, f" Heard {task_id}."),), "base", "odd", "cuda")
    return {"result": result_to_wire(GpuResult(task_id, done))}


def begun(place: Endpoint) -> Job:
    """The newest job, in the hands of a worker."""
    place.regress(place.job())
    return place.job()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"])
async def test_one_word_of_an_end_that_brings_nothing_is_not_believed(
    there: Provider, idle: Endpoint, dialect: str, status: Any
) -> None:
    async with endpoint_of(there.url, settings(dialect)) as endpoint:
        ref = await endpoint.submit(task())
        job = begun(idle)
        assert (await endpoint.status(ref, wait_s=HANG_S)).state == "running"
        idle.flap(job, status)
        assert (await endpoint.status(ref, wait_s=0.5)).state == "running" and not job.lies
        idle.report(job.worker, job.id, {"output": heard(dialect)})
        final = await ended(endpoint, ref)
    assert final.state == "completed" and final.result and final.result.payload


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_end_that_brings_nothing_is_believed_when_a_second_look_agrees(
    there: Provider, idle: Endpoint, dialect: str
) -> None:
    async with endpoint_of(there.url, settings(dialect)) as endpoint:
        ref = await endpoint.submit(task())
        idle.cancel(idle.job())
        final = await ended(endpoint, ref)
    assert final.state == "cancelled" and len(there.of("status")) == 2


async def test_a_hundred_ends_that_bring_nothing_cost_two_looks_each(there: Provider, idle: Endpoint) -> None:
    async with endpoint_of(there.url, pace=PollInterval()) as endpoint:
        refs = [await endpoint.submit(task(f"t{i}")) for i in range(100)]
        for job in list(idle.jobs.values()):
            idle.cancel(job)
        ends = await asyncio.gather(*(ended(endpoint, ref) for ref in refs))
    assert {end.state for end in ends} == {"cancelled"} and len(there.of("status")) == 200


async def test_a_hint_is_no_second_look(there: Provider, idle: Endpoint) -> None:
    hints = WebhookHints("http://127.0.0.1:9/hints")
    async with endpoint_of(there.url, settings(confirm_s=1000.0), hints=hints) as endpoint:
        ref = await endpoint.submit(task())
        idle.cancel(idle.job())
        name = there.calls[0].body["webhook"].rpartition("/")[2]
        for looks in range(1, 5):
            assert hints.notify(name)
            assert (await endpoint.status(ref, wait_s=0.2)).state == "queued"
            assert len(there.of("status")) == looks


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_word_of_the_worker_itself_needs_no_second_look(there: Provider, idle: Endpoint, dialect: str) -> None:
    async with endpoint_of(there.url, settings(dialect, confirm_s=1000.0)) as endpoint:
        ref = await endpoint.submit(task())
        idle.report("", idle.job().id, {"output": heard(dialect)})
        assert (await ended(endpoint, ref)).state == "completed"


async def test_a_failure_that_our_worker_tells_of_needs_no_second_look(there: Provider, idle: Endpoint) -> None:
    told = result_to_wire(GpuResult("t1", error=EncodeFailed("The encoder gave up.").info))
    async with endpoint_of(there.url, settings("gpudrop", confirm_s=1000.0)) as endpoint:
        ref = await endpoint.submit(task())
        idle.report("", idle.job().id, {"output": {"result": told}, "error": "encode_failed: The encoder gave up."})
        final = await ended(endpoint, ref)
    assert final.result and final.result.error and final.result.error.code == "encode_failed"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_what_is_told_of_another_job_is_not_this_jobs_end(
    there: Provider, idle: Endpoint, dialect: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with endpoint_of(there.url, settings(dialect)) as endpoint:
        await endpoint.submit(task("other"))
        other = idle.job()
        idle.report("", other.id, {"output": heard(dialect, "other")})
        ref = await endpoint.submit(task())
        job = begun(idle)
        idle.confuse(job, other, looks=3)
        assert (await endpoint.status(ref, wait_s=HANG_S)).state == "running" and not job.lies
        idle.report("", job.id, {"output": heard(dialect)})
        final = await ended(endpoint, ref)
    assert final.result and final.result.payload and final.result.task_id == "t1"
    assert caplog.text.count(other.id) == 1, "told once, however often it happens"


@pytest.mark.parametrize("kept", [True, False], ids=["same process", "another process"])
async def test_a_result_of_another_task_is_none(
    there: Provider, idle: Endpoint, kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Under the job's own id. What the provider goes on saying is believed of the job, not of its result."""
    ours = settings("gpudrop")
    async with endpoint_of(there.url, ours) as first, endpoint_of(there.url, ours) as later:
        endpoint = first if kept else later
        await first.submit(task("other"))
        other = idle.job()
        idle.report("", other.id, {"output": heard("gpudrop", "other")})
        ref = await first.submit(task())
        job = begun(idle)
        idle.mix_up(job, other)
        running = await endpoint.status(ref, wait_s=HANG_S)
        assert running.state == "running" and not job.lies
        idle.mix_up(job, other, looks=1000)
        assert await ended(endpoint, ref) == JobStatus("completed")
    assert "other" in caplog.text


@pytest.mark.parametrize("taken", [True, False])
async def test_10_a_submission_of_unknown_outcome_is_made_once(there: Provider, quick: Endpoint, taken: bool) -> None:
    there.faults.on("run", faults.reset(taken=taken))
    async with endpoint_of(there.url) as endpoint:
        with pytest.raises(SubmitUnknown):
            await endpoint.submit(task())
    assert there.faults.met == ["run"] and len(quick.jobs) == taken


async def test_11_unknown_keys_limits_and_missing_jobs_are_errors_in_words(there: Provider, idle: Endpoint) -> None:
    async with endpoint_of(there.url, client={"key": lambda: "rpa_wrong"}) as endpoint:
        (line,) = await endpoint.health()
        assert not line.ok and "rpa_wrong" not in line.detail + line.remedy
        job = JobRef("hub", EP, "j1")
        for call in (endpoint.submit(task()), endpoint.status(job), endpoint.cancel(job), endpoint.restart(job)):
            with pytest.raises(Exception, match="refuses the key") as raised:
                await call
            assert "rpa_wrong" not in str(raised.value)


async def test_12_pages_instead_of_answers_do_not_end_a_job(there: Provider, quick: Endpoint) -> None:
    for status in (200, 404, 502):
        there.faults.on("status", faults.html(status))
    async with endpoint_of(there.url) as endpoint:
        job = await endpoint.submit(task())
        assert (await ended(endpoint, job)).state == "completed"
    assert quick.paid == 1


@pytest.mark.parametrize("fault", [faults.failing(400), faults.failing(500, taken=True), faults.html(413)])
async def test_an_error_that_echoes_the_task_shows_no_signature(there: Provider, quick: Endpoint, fault: Any) -> None:
    def echoed(job: GpuTask) -> str:
        return f'{{"error": "cannot fetch {job.inputs[0].url} with Bearer {there.api_key}"}}'

    there.faults.on("run", faults.Fault(fault.status, echoed(task())))
    async with endpoint_of(there.url) as endpoint:
        with pytest.raises(Exception, match="cannot fetch") as raised:
            await asyncio.wait_for(endpoint.submit(task()), HANG_S)
    said = repr(getattr(raised.value, "info", "")) + str(raised.value)
    assert "5ec2e7" not in said and there.api_key not in said
