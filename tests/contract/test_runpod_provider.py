"""The provider other tests rely on behaves as RunPod does, with real SDK workers behind it."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import psutil
import pytest
from aiohttp import web

from support.deadlines import HANG_S
from support.processes import name_of
from support.runpod import faults
from support.runpod.endpoint import Endpoint
from support.runpod.jobs import Auto, Job
from support.runpod.queue import Provider, provider


@dataclass
class Caller:
    provider: Provider
    endpoint: Endpoint
    session: aiohttp.ClientSession

    async def call(self, op: str, job: Job | None = None, body: Any = None) -> tuple[int, Any]:
        """The status and the JSON of one answer, or its text."""
        method = "GET" if op in ("status", "health") else "POST"
        path = f"{self.provider.url}/{self.endpoint.id}/{op}" + (f"/{job.id}" if job else "")
        async with self.session.request(method, path, json=body) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" and text else text

    async def run(self, policy: dict[str, int] | None = None, webhook: str | None = None, **asked: Any) -> Job:
        status, answer = await self.call("run", body={"input": asked, "policy": policy, "webhook": webhook})
        assert (status, answer["status"]) == (200, "IN_QUEUE")
        return self.endpoint.jobs[answer["id"]]

    async def end(self, job: Job) -> dict[str, Any]:
        """What /status says of `job` when it is final."""
        await self.endpoint.until(lambda: job.final)
        return (await self.call("status", job))[1]


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    timeout = aiohttp.ClientTimeout(HANG_S)
    async with provider() as p:
        headers = {"Authorization": f"Bearer {p.api_key}"}
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            yield Caller(p, p.endpoint("ep"), session)


def sleepers() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if name_of(p) == "sleep"]


async def test_a_job_runs_on_an_sdk_worker(caller: Caller) -> None:
    async with caller.endpoint.worker("sdk") as worker:
        job = await caller.run(text="ü" * 1000)
        told = await caller.end(job)
        assert told["output"] == {"echo": {"text": "ü" * 1000}, "worker": worker.ids[0]}
        assert (told["id"], told["status"], told["workerId"]) == (job.id, "COMPLETED", worker.ids[0])
        assert told["delayTime"] >= 0 and told["executionTime"] >= 0
        assert (job.taken, job.finished, caller.endpoint.paid) == (1, 1, 1)
        health = (await caller.call("health"))[1]
        assert health["jobs"]["completed"] == 1 and health["workers"]["idle"] == 1
    assert [call.op for call in caller.provider.calls] == ["run", "status", "health"]
    assert not any(psutil.pid_exists(pid) for pid in worker.pids)


async def test_errors_take_the_shapes_of_the_sdk(caller: Caller) -> None:
    async with caller.endpoint.worker("sdk"):
        failed = await caller.end(await caller.run(do="fail"))
        assert (failed["status"], failed["error"], failed["output"]) == ("FAILED", "it is not so", {"detail": 7})
        raised = await caller.end(await caller.run(do="raise"))
        assert raised["status"] == "FAILED" and "output" not in raised
        assert json.loads(raised["error"])["error_message"] == "a defect"


async def test_progress_is_seen_and_a_cancel_reaches_the_worker(caller: Caller) -> None:
    async with caller.endpoint.worker("sdk"):
        job = await caller.run(do="sleep", seconds=1000)
        await caller.endpoint.until(lambda: job.progress)
        told = (await caller.call("status", job))[1]
        assert (told["status"], told["output"]) == ("IN_PROGRESS", {"percent": 50, "stage": "sleep"})
        assert (await caller.call("cancel", job))[1]["status"] == "CANCELLED"
        after = await caller.run(do="echo")
        assert (await caller.end(after))["status"] == "COMPLETED"
        assert job.status == "CANCELLED" and job.finished == 0


async def test_a_stop_that_is_lost_lets_the_job_go_on_behind_a_final_state(caller: Caller) -> None:
    caller.endpoint.stops_lost = True
    async with caller.endpoint.worker("sdk"):
        job = await caller.run(do="sleep", seconds=1)
        await caller.endpoint.until(lambda: job.taken)
        await caller.call("cancel", job)
        await caller.endpoint.until(lambda: job.finished)
        assert (await caller.call("status", job))[1]["status"] == "CANCELLED"


async def test_a_job_past_its_execution_timeout_ends_and_is_stopped(caller: Caller) -> None:
    caller.endpoint.scale = 0.1
    async with caller.endpoint.worker("sdk"):
        job = await caller.run({"executionTimeout": 5000}, do="sleep", seconds=1000)
        assert (await caller.end(job))["status"] == "TIMED_OUT"
        assert (await caller.end(await caller.run(do="echo")))["status"] == "COMPLETED"
        assert job.finished == 0
        assert (await caller.call("retry", job))[1] == {"id": job.id, "status": "IN_QUEUE"}
        assert (await caller.end(job))["status"] == "TIMED_OUT" and job.taken == 2


async def test_a_job_past_its_ttl_is_forgotten_while_it_runs(caller: Caller) -> None:
    caller.endpoint.scale = 0.1
    async with caller.endpoint.worker("sdk"):
        job = await caller.run({"ttl": 10_000}, do="sleep", seconds=2)
        await caller.endpoint.until(lambda: job.gone)
        assert (job.status, (await caller.call("status", job))[0]) == ("IN_PROGRESS", 404)
        await caller.endpoint.until(lambda: job.finished)
        assert [(await caller.call(op, job))[0] for op in ("status", "cancel", "retry")] == [404, 404, 404]


async def test_a_job_may_be_executed_twice_under_one_id(caller: Caller) -> None:
    caller.endpoint.twice = True
    async with caller.endpoint.worker("sdk", count=2) as worker:
        job = await caller.run(do="sleep", seconds=1)
        await caller.endpoint.until(lambda: job.finished == 2)
        assert {e.worker for e in job.executions} == set(worker.ids)
        assert (await caller.call("status", job))[1]["status"] == "COMPLETED"


async def test_a_worker_that_crashes_gives_its_job_to_another(caller: Caller) -> None:
    async with caller.endpoint.worker("sdk") as first:
        job = await caller.run(do="sleep", seconds=2)
        await caller.endpoint.until(lambda: job.progress)
        first.kill()
        await caller.endpoint.until(lambda: job.status == "IN_QUEUE")
        assert caller.endpoint.health()["workers"]["ready"] == 0
        async with caller.endpoint.worker("sdk"):
            assert (await caller.end(job))["status"] == "COMPLETED"
    assert [e.outcome for e in job.executions] == ["crashed", "completed"]


async def test_a_poison_job_is_retried_while_it_bills(caller: Caller) -> None:
    async with caller.endpoint.worker("sdk", restart=True) as worker:
        job = await caller.run(do="die")
        await caller.endpoint.until(lambda: job.taken == 3)
        await caller.call("cancel", job)
        assert worker.started >= 3
        assert {e.outcome for e in job.executions[:2]} == {"crashed"}


@pytest.mark.parametrize(("after_crash", "status"), [("fail", "FAILED"), ("nothing", "IN_PROGRESS")])
async def test_a_crash_may_fail_the_job_or_go_unnoticed(caller: Caller, after_crash: Any, status: str) -> None:
    caller.endpoint.after_crash = after_crash
    async with caller.endpoint.worker("sdk"):
        job = await caller.run(do="die")
        await caller.endpoint.until(lambda: job.executions and job.executions[0].outcome == "crashed")
        assert (await caller.call("status", job))[1]["status"] == status


async def test_nobody_takes_a_job_where_no_worker_may_run(caller: Caller) -> None:
    caller.endpoint.workers_max = 0
    async with caller.endpoint.worker("sdk"):
        job = await caller.run(do="echo")
        with pytest.raises(TimeoutError):
            await caller.endpoint.until(lambda: job.taken, within_s=1.0)
        assert (await caller.call("purge-queue"))[1]["removed"] == 1
        assert job.status == "CANCELLED"


async def test_one_worker_takes_several_jobs_at_once(caller: Caller) -> None:
    async with caller.endpoint.worker("sdk", CONCURRENCY="4"):
        jobs = [await caller.run(do="sleep", seconds=1.0 + i) for i in range(4)]
        await caller.endpoint.until(lambda: sum(job.status == "IN_PROGRESS" for job in jobs) == 4)
        assert [(await caller.end(job))["output"]["echo"]["seconds"] for job in jobs] == [1.0, 2.0, 3.0, 4.0]


async def test_heartbeats_name_the_job_even_while_it_holds_the_loop_up(caller: Caller) -> None:
    async with caller.endpoint.worker("sdk") as worker:
        job = await caller.run(do="block", seconds=3)
        await caller.endpoint.until(lambda: (worker.ids[0], job.id) in caller.endpoint.pings)
        assert (await caller.end(job))["status"] == "COMPLETED"


async def test_nothing_a_worker_started_outlives_it(caller: Caller) -> None:
    async with caller.endpoint.worker("sdk") as worker:
        await caller.run(do="spawn", seconds=1000)
        async with asyncio.timeout(HANG_S):
            while not sleepers():
                await asyncio.sleep(0.05)
        worker.kill()
        await caller.endpoint.until(lambda: not caller.endpoint.workers)
    assert sleepers() == []


async def test_what_the_provider_does_to_a_result(caller: Caller) -> None:
    caller.endpoint.auto = Auto(0.0, lambda job: {"of": job.id})
    job = await caller.run()
    assert (await caller.end(job))["output"] == {"of": job.id}
    caller.endpoint.expire(job)
    assert (await caller.call("status", job))[0] == 404
    caller.endpoint.drop_output = True
    bare = await caller.end(await caller.run())
    assert bare["status"] == "COMPLETED" and "output" not in bare
    caller.endpoint.late_progress = True
    late = await caller.run()
    await caller.endpoint.until(lambda: late.finished)
    assert (await caller.call("status", late))[1]["status"] == "IN_PROGRESS"


async def test_a_result_is_kept_for_its_time(caller: Caller) -> None:
    caller.endpoint.auto = Auto(0.0, lambda _: {})
    caller.endpoint.result_kept_s = 0.1
    job = await caller.run()
    await caller.endpoint.until(lambda: job.gone)
    assert job.status == "COMPLETED" and (await caller.call("status", job))[0] == 404


async def test_what_it_refuses(caller: Caller) -> None:
    assert (await caller.call("run", body={"inputs": {}}))[0] == 400
    assert (await caller.call("run", body={"input": {}, "policy": {"executionTimeout": 4999}}))[0] == 400
    assert (await caller.call("run", body={"input": {"text": "x" * 10 * 2**20}}))[0] == 413
    job = await caller.run()
    assert (await caller.call("retry", job))[0] == 400
    job.id = "somebody-else"
    assert (await caller.call("status", job))[0] == 404
    caller.endpoint.id = "nowhere"
    assert (await caller.call("health"))[0] == 404
    async with aiohttp.ClientSession() as stranger, stranger.get(f"{caller.provider.url}/ep/health") as answer:
        assert answer.status == 401


async def test_limits_are_answered_with_429(caller: Caller) -> None:
    caller.provider.limits = {"health": 3}
    assert [(await caller.call("health"))[0] for _ in range(5)] == [200, 200, 200, 429, 429]
    assert caller.provider.limited == 2


async def test_faults_of_one_answer_each(caller: Caller) -> None:
    on = caller.provider.faults.on
    on("health", faults.too_many("7"))
    on("health", faults.failing(503))
    on("health", faults.html())
    on("health", faults.empty())
    answers = [await caller.call("health") for _ in range(5)]
    assert [status for status, _ in answers] == [429, 503, 502, 200, 200]
    assert answers[2][1].startswith("<!DOCTYPE html>") and answers[3][1] == "" and "jobs" in answers[4][1]


async def test_a_job_is_taken_or_not_before_its_answer_is_lost(caller: Caller) -> None:
    on = caller.provider.faults.on
    for fault, sent in (
        (faults.reset(), 0),
        (faults.reset(taken=True), 1),
        (faults.reset_mid_body(), 2),
    ):
        on("run", fault)
        with pytest.raises(aiohttp.ClientError):
            await caller.call("run", body={"input": {}})
        assert len(caller.endpoint.jobs) == sent
    on("run", faults.failing(500, taken=True))
    assert (await caller.call("run", body={"input": {}}))[0] == 500
    assert len(caller.endpoint.jobs) == 3
    on("run", faults.hang(taken=True))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(caller.call("run", body={"input": {}}), 0.5)
    assert len(caller.endpoint.jobs) == 4
    assert [call.answered for call in caller.provider.of("run")] == [0, 0, 0, 500, 0]


async def test_a_webhook_is_told_until_it_answers_200(caller: Caller) -> None:
    answers = [500, 302, 200]
    told: list[Any] = []

    async def hear(request: web.Request) -> web.Response:
        told.append(await request.json())
        return web.Response(status=answers[len(told) - 1])

    app = web.Application()
    app.router.add_post("/hook", hear)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        caller.endpoint.auto = Auto(0.0, lambda _: {"done": True})
        job = await caller.run(webhook=f"http://127.0.0.1:{runner.addresses[0][1]}/hook", text="hello")
        async with asyncio.timeout(HANG_S):
            while len(job.webhooks) < 3:
                await asyncio.sleep(0.02)
    finally:
        await runner.cleanup()
    assert job.webhooks == answers
    assert {(t["id"], t["status"], t["input"]["text"]) for t in told} == {(job.id, "COMPLETED", "hello")}


@pytest.mark.parametrize("program", ["whisper-hub", "worker-faster_whisper"])
async def test_workers_of_others_answer_in_their_shapes(caller: Caller, program: Any) -> None:
    async with caller.endpoint.worker(program):
        asked = {"audio": "https://example.com/a.mp3", "language": "pt", "word_timestamps": True}
        told = await caller.end(await caller.run(**asked))
        assert told["output"]["detected_language"] == "pt" and len(told["output"]["word_timestamps"]) == 4
        assert {"segments", "transcription", "device", "model"} <= set(told["output"])
        refused = await caller.end(await caller.run(audio="https://example.com/a.mp3", unknown=1))
        assert refused["status"] == "FAILED" and isinstance(refused["error"], list)
