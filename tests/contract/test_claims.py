"""Of all the jobs that carry a task, one does it: claims on every S3 server there is here, by the addresses we sign."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from gpu_dispatch.claims import Claim, claim_bytes, claim_from_bytes, withdrawal
from gpu_dispatch.task import AddAudioParams, ClaimUrls, GpuTask, TaskParams, Videos
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.worker.answer import result_bytes
from gpu_dispatch.worker.claim import MAX_BEGUN, Identity, acquire_claim
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.job import JobEnvironment, execute_job
from listener.stores.s3.store import S3Store
from manifests.errors import DuplicateJob, GpuDropError, RunCancelled, WorkerCrashed
from support.deadlines import HANG_S
from support.stores import s3_client, settings_for

KEEPS = {"minio": True, "versitygw": True, "seaweedfs": True}
"""What each server was found to do with `If-None-Match: *`; a server that changes its ways fails a test here."""

KEY = b"k" * 32


@dataclass
class Place:
    name: str
    store: S3Store
    bucket: str

    async def task(self) -> GpuTask:
        """A task with a claim of its own and a place for its answer."""
        key = f".gpudrop/jobs/{uuid4().hex}/1"

        async def at(method: Any, what: str) -> str:
            return await self.store.sign(method, self.bucket, f"{key}.{what}", expires_s=600)

        urls = ClaimUrls(await at("PUT", "claim"), await at("GET", "claim"))
        answer = await at("PUT", "answer")
        params = AddAudioParams(video="v.mp4", audio="a.wav", output="out.mp4")
        return GpuTask(key, params, (), trusted_hosts=self.store.trusted_hosts, claim=urls, answer_url=answer)

    async def lies(self, task: GpuTask, what: str = "claim") -> bytes | None:
        return await self.store.read(self.bucket, f"{task.task_id}.{what}", max_bytes=100_000)

    async def holder(self, task: GpuTask) -> Claim | None:
        return claim_from_bytes(await self.lies(task) or b"")

    async def put(self, task: GpuTask, claim: Claim) -> None:
        await self.store.write(self.bucket, f"{task.task_id}.claim", claim_bytes(claim), content_type="")


@pytest.fixture(scope="module", params=KEEPS)
def server_and_bucket(request: pytest.FixtureRequest) -> tuple[str, Any, str]:
    """A bucket that all tests share: SeaweedFS has room for few."""
    server = request.getfixturevalue(f"{request.param}_server")
    bucket = f"claims-{uuid4().hex[:8]}"
    s3_client(server).create_bucket(Bucket=bucket)
    return request.param, server, bucket


@pytest.fixture
async def place(server_and_bucket: tuple[str, Any, str]) -> AsyncIterator[Place]:
    name, server, bucket = server_and_bucket
    store = S3Store(settings_for(server, bucket))
    yield Place(name, store, bucket)
    await store.close()


def who(job: str, worker: str = "w1") -> Identity:
    return Identity(job, "ep", worker)


async def claim(task: GpuTask, identity: Identity) -> str:
    """ "mine", or the code of the error that says why not."""
    try:
        async with acquire_claim(task, identity, TransferLimits()):
            return "mine"
    except GpuDropError as e:
        return e.info.code


async def test_the_store_says_whether_it_keeps_claims(place: Place) -> None:
    assert await place.store.creates_atomically(place.bucket) is KEEPS[place.name]
    assert [each async for each in place.store.list(place.bucket, ".gpudrop/claim-check")] == []


async def test_of_many_at_once_one_has_the_claim(place: Place) -> None:
    for _ in range(5):
        task = await place.task()
        ends = await asyncio.gather(*(claim(task, who(f"job-{n}", f"w{n}")) for n in range(8)))
        assert sorted(ends) == ["duplicate_job"] * 7 + ["mine"]
        holder = await place.holder(task)
        assert holder and ends.index("mine") == int(holder.job_id.removeprefix("job-"))


FOREIGN = [b"\x00 no claim", claim_bytes(Claim("t", "planted", "ep", "w", 1.0)), b"x" * 100_000]


@pytest.mark.parametrize("foreign", FOREIGN, ids=["no claim", "not signed", "large"])
async def test_of_many_that_meet_something_foreign_one_has_the_claim(place: Place, foreign: bytes) -> None:
    task = replace(await place.task(), secret=KEY.hex())
    await place.store.write(place.bucket, f"{task.task_id}.claim", foreign, content_type="")
    ends = await asyncio.gather(*(claim(task, who(f"job-{n}", f"w{n}")) for n in range(8)))
    assert sorted(ends) == ["duplicate_job"] * 7 + ["mine"]
    holder = claim_from_bytes(await place.lies(task) or b"", KEY)
    assert holder and ends.index("mine") == int(holder.job_id.removeprefix("job-"))


async def test_a_late_job_is_told_whose_the_task_is(place: Place) -> None:
    task = await place.task()
    assert await claim(task, who("first")) == "mine"
    with pytest.raises(DuplicateJob) as refused:
        async with acquire_claim(task, who("second"), TransferLimits()):
            pass
    assert refused.value.info.where == "first"
    holder = await place.holder(task)
    assert holder and (holder.job_id, holder.endpoint_id, holder.worker) == ("first", "ep", "w1")


async def test_the_same_job_on_another_worker_takes_over_and_the_first_finds_out(place: Place) -> None:
    task = await place.task()
    async with acquire_claim(task, who("job", "w1"), TransferLimits()) as first:
        assert first
        await first.check()
        async with acquire_claim(task, who("job", "w2"), TransferLimits()) as second:
            assert second
            await second.check()
            with pytest.raises(DuplicateJob):
                await first.check()
    holder = await place.holder(task)
    assert holder and holder.worker == "w2"


async def test_a_job_that_ends_one_worker_after_the_other_is_not_begun_for_ever(place: Place) -> None:
    task = await place.task()
    ends = [await claim(task, who("poison", f"w{n}")) for n in range(5)]
    assert ends == ["mine"] * MAX_BEGUN + ["worker_crashed"] * (5 - MAX_BEGUN)
    holder = await place.holder(task)
    assert holder and holder.begun == MAX_BEGUN
    with pytest.raises(WorkerCrashed) as crashed:
        async with acquire_claim(task, who("poison", "w9"), TransferLimits()):
            pass
    assert not crashed.value.retryable and crashed.value.info.hint


async def test_a_task_that_was_withdrawn_is_not_begun(place: Place) -> None:
    task = await place.task()
    await place.put(task, withdrawal(task.task_id, 1.0))
    with pytest.raises(RunCancelled):
        async with acquire_claim(task, who("job"), TransferLimits()):
            pass
    holder = await place.holder(task)
    assert holder and holder.withdrawn


async def test_work_ends_when_its_claim_is_withdrawn_and_leaves_no_answer(place: Place, tmp_path: Any) -> None:
    task = await place.task()
    began, ended = asyncio.Event(), asyncio.Event()

    async def endless(_: TaskParams, job: JobContext) -> Videos:
        began.set()
        try:
            await asyncio.sleep(HANG_S * 10)
        finally:
            ended.set()
        return Videos((), "copy")

    working = asyncio.create_task(
        execute_job(task, JobEnvironment(endless, tmp_path, identity=who("job"), check_interval_s=0.05), lambda _: None)
    )
    async with asyncio.timeout(HANG_S):
        await began.wait()
        await place.put(task, withdrawal(task.task_id, 1.0))
        done = await working
    assert ended.is_set()
    assert done.result.error and done.result.error.code == "cancelled"
    assert not done.stored and await place.lies(task, "answer") is None
    assert list(tmp_path.iterdir()) == []


async def test_nothing_leaves_a_worker_that_lost_its_claim_between_two_looks(place: Place, tmp_path: Any) -> None:
    task = await place.task()

    async def robbed(_: TaskParams, job: JobContext) -> Videos:
        await place.put(task, Claim(task.task_id, "other", "ep", "w9", 1.0))
        return Videos((), "copy")

    done = await execute_job(task, JobEnvironment(robbed, tmp_path, identity=who("job")), lambda _: None)
    assert done.result.error and (done.result.error.code, done.result.error.where) == ("duplicate_job", "other")
    assert not done.stored and await place.lies(task, "answer") is None


async def test_the_answer_lies_in_the_store_good_or_bad(place: Place, tmp_path: Any) -> None:
    async def good(_: TaskParams, job: JobContext) -> Videos:
        return Videos((), "copy")

    async def bad(_: TaskParams, job: JobContext) -> Videos:
        raise KeyError("a defect")

    for operation, code in ((good, None), (bad, "worker_error")):
        task = await place.task()
        done = await execute_job(task, JobEnvironment(operation, tmp_path, identity=who("job")), lambda _: None)
        assert done.stored and await place.lies(task, "answer") == result_bytes(done.result)
        assert (done.result.error.code if done.result.error else None) == code


async def test_one_who_claims_nothing_writes_nothing(place: Place) -> None:
    task = await place.task()
    async with acquire_claim(task, None, TransferLimits()) as held:
        assert held is None
    async with acquire_claim(replace(task, claim=None), who("job"), TransferLimits()) as held:
        assert held is None
    assert await place.lies(task) is None


async def test_the_bare_condition_lets_one_through(place: Place) -> None:
    """The measurement behind KEEPS, without our looking first and reading back."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(HANG_S)) as session:

        async def put(url: str, n: int) -> int:
            async with session.put(url, data=str(n).encode(), headers={"If-None-Match": "*"}) as answer:
                return answer.status

        for _ in range(5):
            urls = (await place.task()).claim
            assert urls
            answers = await asyncio.gather(*(put(urls.put_url, n) for n in range(8)))
            assert sorted(answers) == [200, *[412] * 7]
