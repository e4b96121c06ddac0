"""What becomes of a claim when the store or the way to it misbehaves: a real server that does as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import web

from gpu_dispatch.claims import Claim, claim_bytes, claim_from_bytes, withdrawal
from gpu_dispatch.net.retries import RetryPolicy
from gpu_dispatch.signatures import KEY_BYTES
from gpu_dispatch.task import AddAudioParams, ClaimUrls, GpuResult, GpuTask, TaskParams, Videos
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.wire import result_from_wire, result_to_wire
from gpu_dispatch.worker.answer import result_bytes
from gpu_dispatch.worker.claim import MAX_BEGUN, Identity, acquire_claim
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.job import ExecutionOutcome, JobEnvironment, execute_job
from manifests.errors import DuplicateJob, EncodeFailed

THREE = RetryPolicy(0.02, 0.02, attempts=3)
QUICK = TransferLimits(connect_s=2, idle_s=5, total_s=20, retries=THREE, trusted_retries=THREE)
KEY = b"k" * KEY_BYTES
SIGNED = "?X-Amz-Signature=topsecret"
MINE = Identity("job", "ep", "w1")
OTHERS = Claim("t", "other", "ep", "w2", 1.0)

Trouble = Callable[[web.Request], "web.Response | None"]


@dataclass
class Keeper:
    """A store of whole objects. `conditions`: whether it heeds them; `trouble` may answer in its place."""

    host: str = ""
    conditions: bool = True
    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])
    asked: list[str] = field(default_factory=list[str])
    problem: Trouble = lambda _: None

    async def serve(self, request: web.Request) -> web.Response:
        data = await request.read()
        self.asked.append(f"{request.method} {request.path}")
        if refused := self.problem(request):
            return refused
        there = self.objects.get(request.path)
        if request.method == "GET":
            return web.Response(status=404) if there is None else web.Response(body=there, headers={"ETag": tag(there)})
        if self.conditions:
            wanted = request.headers.get("If-Match")
            if request.headers.get("If-None-Match") and there is not None:
                return web.Response(status=412)
            if wanted and (there is None or tag(there) != wanted):
                return web.Response(status=412)
        self.objects[request.path] = data
        return web.Response()

    def signed(self) -> GpuTask:
        """As a listener sends it that gives each attempt a key."""
        return replace(self.task(), secret=KEY.hex())

    def task(self) -> GpuTask:
        at = f"http://{self.host}"
        return GpuTask(
            "t",
            AddAudioParams(video="v", audio="a", output="o"),
            (),
            trusted_hosts=(self.host,),
            claim=ClaimUrls(f"{at}/claim{SIGNED}", f"{at}/claim{SIGNED}"),
            answer_url=f"{at}/answer{SIGNED}",
            answer_get_url=f"{at}/answer{SIGNED}",
        )


def tag(data: bytes) -> str:
    return f'"{hash(data)}"'


@pytest.fixture
async def keeper() -> AsyncIterator[Keeper]:
    keeper = Keeper()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", keeper.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    keeper.host = f"127.0.0.1:{runner.addresses[0][1]}"
    yield keeper
    await runner.cleanup()


async def work(task: GpuTask, folder: Path, done: list[str], identity: Identity = MINE) -> ExecutionOutcome:
    async def operation(_: TaskParams, job: JobContext) -> Videos:
        done.append("worked")
        return Videos((), "copy")

    return await execute_job(task, JobEnvironment(operation, folder, identity=identity, limits=QUICK), lambda _: None)


def code(ended: ExecutionOutcome) -> str:
    return ended.result.error.code if ended.result.error else ""


async def test_the_order_is_claim_work_answer(keeper: Keeper, tmp_path: Path) -> None:
    done: list[str] = []
    ended = await work(keeper.task(), tmp_path, done)
    assert ended.stored and done == ["worked"]
    assert keeper.asked == ["GET /claim", "PUT /claim", "GET /claim", "GET /claim", "PUT /answer"]
    assert result_from_wire(json.loads(keeper.objects["/answer"])) == ended.result


async def test_no_work_is_done_when_the_claim_cannot_be_reached(keeper: Keeper, tmp_path: Path) -> None:
    keeper.problem = lambda request: web.Response(status=503) if request.path == "/claim" else None
    done: list[str] = []
    ended = await work(keeper.task(), tmp_path, done)
    assert code(ended) == "transfer_failed" and ended.result.error and ended.result.error.retryable
    assert done == [] and keeper.asked == ["GET /claim"] * THREE.attempts
    assert "topsecret" not in str(ended.result)


async def test_a_claim_that_is_written_though_the_answer_is_lost_is_ours(keeper: Keeper, tmp_path: Path) -> None:
    def lose_first(request: web.Request) -> web.Response | None:
        if request.method == "PUT" and request.path == "/claim" and keeper.asked.count("PUT /claim") == 1:
            keeper.objects["/claim"] = request._read_bytes or b""
            assert request.transport
            request.transport.abort()
            return web.Response()
        return None

    keeper.problem = lose_first
    done: list[str] = []
    assert code(await work(keeper.task(), tmp_path, done)) == "" and done == ["worked"]
    assert keeper.asked.count("PUT /claim") == 2


@pytest.mark.parametrize("status", [400, 501])
async def test_a_server_that_knows_no_conditions_is_asked_without(keeper: Keeper, tmp_path: Path, status: int) -> None:
    keeper.problem = lambda r: web.Response(status=status) if "If-None-Match" in r.headers else None
    assert code(await work(keeper.task(), tmp_path, [])) == ""


@pytest.mark.parametrize(("body", "retryable"), [("<Message>Request has expired</Message>", True), ("", False)])
async def test_an_address_that_is_refused_is_told(keeper: Keeper, tmp_path: Path, body: str, retryable: bool) -> None:
    keeper.problem = lambda r: web.Response(status=403, text=body) if r.method == "PUT" else None
    ended = await work(keeper.task(), tmp_path, [])
    assert code(ended) == "store_denied" and ended.result.error and ended.result.error.retryable is retryable


async def test_a_late_job_never_writes_over_a_claim_even_where_conditions_are_ignored(
    keeper: Keeper, tmp_path: Path
) -> None:
    keeper.conditions = False
    keeper.objects["/claim"] = claim_bytes(OTHERS)
    done: list[str] = []
    ended = await work(keeper.task(), tmp_path, done)
    assert code(ended) == "duplicate_job" and done == []
    assert keeper.objects == {"/claim": claim_bytes(OTHERS)}


async def test_where_conditions_are_ignored_the_first_of_two_at_once_finds_out(keeper: Keeper) -> None:
    keeper.conditions = False
    task = keeper.task()
    async with acquire_claim(task, MINE, QUICK) as mine:
        keeper.objects["/claim"] = claim_bytes(OTHERS)
        assert mine
        with pytest.raises(DuplicateJob):
            await mine.check()


FOREIGN = {
    "nothing": b"",
    "no claim": b"\x00 not a claim",
    "a claim without a signature": claim_bytes(OTHERS),
    "a claim signed for another attempt": claim_bytes(OTHERS, b"o" * KEY_BYTES),
    "a withdrawal without a signature": claim_bytes(withdrawal("t", 1.0)),
    "more than a claim has": b"x" * 1_000_000,
}


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
async def test_what_is_no_claim_of_the_attempt_is_written_over(keeper: Keeper, tmp_path: Path, foreign: bytes) -> None:
    keeper.objects["/claim"] = foreign
    done: list[str] = []
    assert code(await work(keeper.signed(), tmp_path, done)) == "" and done == ["worked"]
    held = claim_from_bytes(keeper.objects["/claim"], KEY)
    assert held and held.job_id == MINE.job_id


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
async def test_what_is_put_in_the_place_of_a_claim_neither_stops_the_work_nor_stays(
    keeper: Keeper, foreign: bytes
) -> None:
    async with acquire_claim(keeper.signed(), MINE, QUICK) as mine:
        assert mine
        claim = keeper.objects["/claim"]
        keeper.objects["/claim"] = foreign
        await mine.check()
        assert keeper.objects["/claim"] == claim
        async with acquire_claim(keeper.signed(), Identity("job", "ep", "w2"), QUICK):
            with pytest.raises(DuplicateJob):
                await mine.check()


async def test_a_signed_claim_and_a_signed_withdrawal_are_heeded(keeper: Keeper, tmp_path: Path) -> None:
    for claim, ends in ((OTHERS, "duplicate_job"), (withdrawal("t", 1.0), "cancelled")):
        keeper.objects["/claim"] = claim_bytes(claim, KEY)
        assert code(await work(keeper.signed(), tmp_path, [])) == ends


async def test_an_answer_that_somebody_else_left_is_none(keeper: Keeper, tmp_path: Path) -> None:
    done: list[str] = []
    first = await work(keeper.signed(), tmp_path, done)
    answer = keeper.objects["/answer"]
    assert await work(keeper.signed(), tmp_path, done, AGAIN) == first and done == ["worked"]
    planted = GpuResult("t", Videos((), "planted"))
    for left in (result_bytes(planted), result_bytes(planted, b"o" * KEY_BYTES), answer[:-1], answer[1:]):
        keeper.objects["/answer"] = left
        keeper.objects["/claim"] = claim_bytes(replace(OTHERS, job_id=MINE.job_id), KEY)
        ended = await work(keeper.signed(), tmp_path, done, AGAIN)
        assert isinstance(ended.result.payload, Videos) and ended.result.payload.encoder == "copy"
    assert done == ["worked"] * 5


async def test_a_store_that_is_away_for_a_while_does_not_end_the_work(keeper: Keeper) -> None:
    async with acquire_claim(keeper.task(), MINE, QUICK) as mine:
        keeper.problem = lambda _: web.Response(status=503)
        assert mine
        await mine.check()


async def test_a_way_to_the_store_that_leads_elsewhere_does_not_end_the_work(keeper: Keeper) -> None:
    async with acquire_claim(keeper.task(), MINE, QUICK) as mine:
        assert mine
        for elsewhere in ("http://192.168.0.1:9/login", "ftp://127.0.0.1/"):
            keeper.problem = lambda _, to=elsewhere: web.Response(status=302, headers={"Location": to})
            await mine.check()


async def test_an_answer_that_cannot_be_stored_does_not_fail_the_job(keeper: Keeper, tmp_path: Path) -> None:
    keeper.problem = lambda r: web.Response(status=403) if r.path == "/answer" else None
    ended = await work(keeper.task(), tmp_path, [])
    assert code(ended) == "" and ended.result.payload and not ended.stored


async def test_cancelled_work_leaves_no_answer(keeper: Keeper, tmp_path: Path) -> None:
    began = asyncio.Event()

    async def endless(_: TaskParams, job: JobContext) -> Videos:
        began.set()
        await asyncio.sleep(1000)
        return Videos((), "copy")

    place = JobEnvironment(endless, tmp_path, identity=MINE, limits=QUICK)
    working = asyncio.create_task(execute_job(keeper.task(), place, lambda _: None))
    await began.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert "/answer" not in keeper.objects and list(tmp_path.iterdir()) == []


AGAIN = Identity("job", "ep", "w2")
"""Another worker, to which the provider gave the same job once more."""


async def test_a_finished_job_that_is_given_out_again_is_answered_from_the_store(
    keeper: Keeper, tmp_path: Path
) -> None:
    done: list[str] = []
    first = await work(keeper.task(), tmp_path, done)
    claim = keeper.objects["/claim"]
    keeper.asked.clear()
    again = await work(keeper.task(), tmp_path, done, AGAIN)
    assert done == ["worked"] and again == first
    assert keeper.asked == ["GET /claim", "GET /answer"] and keeper.objects["/claim"] == claim


async def test_a_job_that_failed_is_answered_alike(keeper: Keeper, tmp_path: Path) -> None:
    async def failing(_: TaskParams, job: JobContext) -> Videos:
        raise EncodeFailed("The encoder gave up.")

    place = JobEnvironment(failing, tmp_path, identity=MINE, limits=QUICK)
    first = await execute_job(keeper.task(), place, lambda _: None)
    done: list[str] = []
    assert await work(keeper.task(), tmp_path, done, AGAIN) == first and done == []


async def test_the_answer_counts_also_where_too_many_workers_have_begun(keeper: Keeper, tmp_path: Path) -> None:
    done: list[str] = []
    first = await work(keeper.task(), tmp_path, done)
    worn = replace(OTHERS, job_id=MINE.job_id, begun=MAX_BEGUN)
    keeper.objects["/claim"] = claim_bytes(worn)
    assert await work(keeper.task(), tmp_path, done, AGAIN) == first and done == ["worked"]


@pytest.mark.parametrize(
    "left", [b"", b"no json", json.dumps(result_to_wire(GpuResult("another-task", Videos((), "copy")))).encode()]
)
async def test_what_is_no_answer_to_this_task_is_none(keeper: Keeper, tmp_path: Path, left: bytes) -> None:
    done: list[str] = []
    await work(keeper.task(), tmp_path, done)
    keeper.objects["/answer"] = left
    ended = await work(keeper.task(), tmp_path, done, AGAIN)
    assert ended.result.task_id == "t" and done == ["worked"] * 2


async def test_an_answer_that_may_not_be_read_does_not_keep_the_job_from_working(
    keeper: Keeper, tmp_path: Path
) -> None:
    done: list[str] = []
    await work(keeper.task(), tmp_path, done)
    keeper.problem = lambda r: web.Response(status=403) if (r.method, r.path) == ("GET", "/answer") else None
    assert code(await work(keeper.task(), tmp_path, done, AGAIN)) == "" and done == ["worked"] * 2


async def test_while_nobody_can_say_whether_a_job_was_done_it_is_not_done_again(keeper: Keeper, tmp_path: Path) -> None:
    """The listener looks for the answer itself, and longer: nothing is paid for twice meanwhile."""
    done: list[str] = []
    await work(keeper.task(), tmp_path, done)
    left = dict(keeper.objects)
    keeper.problem = lambda r: web.Response(status=503) if (r.method, r.path) == ("GET", "/answer") else None
    ended = await work(keeper.task(), tmp_path, done, AGAIN)
    assert code(ended) == "transfer_failed" and ended.result.error and ended.result.error.retryable
    assert done == ["worked"] and keeper.objects == left
    assert keeper.asked.count("GET /answer") == THREE.attempts


async def test_an_answer_that_is_found_at_last_counts(keeper: Keeper, tmp_path: Path) -> None:
    done: list[str] = []
    first = await work(keeper.task(), tmp_path, done)

    def away(request: web.Request) -> web.Response | None:
        asked = keeper.asked.count("GET /answer")
        return web.Response(status=503) if request.path == "/answer" and asked < THREE.attempts else None

    keeper.problem = away
    assert await work(keeper.task(), tmp_path, done, AGAIN) == first and done == ["worked"]


async def test_a_task_that_does_not_say_where_to_read_the_answer_is_worked_on(keeper: Keeper, tmp_path: Path) -> None:
    """As an earlier listener sends it."""
    done: list[str] = []
    task = replace(keeper.task(), answer_get_url=None)
    for identity in (MINE, AGAIN):
        assert code(await work(task, tmp_path, done, identity)) == ""
    assert done == ["worked"] * 2
