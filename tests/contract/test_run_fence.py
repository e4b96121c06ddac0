"""The last word is the last word: what a run writes when it has ended, or when a newer one has its keys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpu_dispatch.task import GpuResult, Img2VidParams, TranscribeParams, VideoFile, Videos
from handlers.base import Finished, OutputFile, Plan, PlannedTask, TaskTarget
from listener.ledger.inbox import InboxEntry, InboxEvent
from listener.ledger.intake import IntakeDecision, IntakeLedger
from listener.ledger.objects import SeenVersion
from listener.ledger.ownership import KeyClaim, OutputOwners
from listener.ledger.run_rows import RunRow
from listener.run_request import RunRequest
from listener.runs.adoption import READ_BATCH, Adoption
from listener.runs.fence import Fence
from listener.runs.finalizer import RunFinalizer
from listener.runs.manifests import ResolvedManifest
from listener.runs.outputs import in_memory
from listener.runs.status import StatusPublisher
from manifests.errors import ErrorInfo, InputMissing, OutputReplaced, RunSuperseded, StoreUnavailable
from manifests.sidecars import DoneSidecar, ErrorSidecar, done_bytes, failed_bytes
from support.deadlines import HANG_S
from support.held_store import HeldStore, RunRecords, run_of, run_records

NOW = datetime(2026, 1, 2, tzinfo=UTC)
STATUS, DONE, ERROR = "a.status.json", "a.done.json", "a.error.json"
ASKED = ResolvedManifest("transcribe", {"operation": "transcribe"}, None)
MISSING = InputMissing("It is not there.").info


@dataclass
class Desk:
    """What a run writes with, on one kind of store."""

    store: HeldStore
    bucket: str
    records: RunRecords
    publisher: StatusPublisher
    finalizer: RunFinalizer
    adoption: Adoption

    async def run(self, run_id: str, *, accepted: float = 1.0) -> RunRequest:
        return await self.records.add(run_of(run_id, bucket=self.bucket), accepted=accepted)

    async def replace(self, run: RunRequest, by: str) -> RunRequest:
        """A newer version of the drop was accepted."""
        await self.records.runs.request_end(run.run_id, "superseded")
        return await self.run(by, accepted=2.0)

    async def finish(self, run: RunRequest, text: bytes) -> bytes:
        """Outputs and final sidecar, as the story's last step writes them."""
        finished = Finished("ok", (OutputFile("segments.srt", text, "text/plain"), OutputFile("b.txt", b"b", "x/y")))
        results = [GpuResult("t")]
        claim = KeyClaim(run.run_id, run.key, run.lineage)
        keys = [output.key for output in finished.outputs]
        assert await OutputOwners(self.records.database).claim(run.bucket, keys, claim) == ()
        summary = await self.finalizer.write(
            run, Plan("transcribe", (PlannedTask(TranscribeParams(audio="a"), ()),)), results, in_memory(finished), []
        )
        return await self.finalizer.done(run, ASKED, summary)

    async def put(self, key: str, data: bytes) -> None:
        await self.store.put(self.bucket, key, data, content_type="application/json")

    async def get(self, key: str) -> bytes | None:
        return await self.store.read(self.bucket, key, max_bytes=2**20)

    async def writer(self, key: str) -> str | None:
        data = await self.get(key)
        return json.loads(data)["run_id"] if data else None

    async def state(self, run: RunRequest) -> str:
        row = await self.records.runs.find(run.run_id)
        assert row
        return row.state

    async def until(self, look: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(HANG_S):
            while not await look():
                await asyncio.sleep(0.02)


async def _free(run_id: str) -> None:
    del run_id


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.minio)])
def store(request: pytest.FixtureRequest) -> HeldStore:
    return HeldStore(request.getfixturevalue(f"{request.param}_store"))


@pytest.fixture
async def desk(store: Any, tmp_path: Path) -> AsyncIterator[Desk]:
    async for records in run_records(tmp_path):
        publisher = StatusPublisher(store, records.runs, lambda: 0.0, _free, close_s=0.1)
        fence = Fence(store, records.runs)
        finalizer = RunFinalizer(
            store, records.objects, records.runs, publisher, fence, clock=lambda: 0.0, link_s=60, spent=_free
        )  # fmt: skip
        adoption = Adoption(records.objects, records.runs, publisher, fence, clock=lambda: 0.0)
        yield Desk(store, store.buckets[0], records, publisher, finalizer, adoption)


def done(run: RunRequest, *outputs: str) -> bytes:
    document = DoneSidecar(run.run_id, run.key, "transcribe", "ok", NOW, NOW)
    body = json.loads(done_bytes(document))
    return json.dumps({**body, "outputs": [{"key": key, "size": 1} for key in outputs]}).encode()


def failed(run: RunRequest, error: ErrorInfo = MISSING) -> bytes:
    return failed_bytes(ErrorSidecar(run.run_id, run.key, error, NOW, NOW))


async def test_no_status_once_an_end_is_on_record(desk: Desk) -> None:
    run = await desk.run("r")
    await desk.records.runs.update("r", state="done", at=1.0)
    async with desk.publisher.open(run) as status:
        status.move("queued")
        await asyncio.sleep(1.0)
    assert await desk.get(STATUS) is None


async def test_a_status_that_lands_after_the_end_is_taken_back(desk: Desk) -> None:
    run = await desk.run("r")
    held = desk.store.hold("put", STATUS)
    async with desk.publisher.open(run) as status:
        status.move("queued")
        await asyncio.wait_for(held.arrived.wait(), HANG_S)
        await desk.finish(run, b"1")
    (writing,) = (task for task in asyncio.all_tasks() if task.get_name() == "status r")
    held.go_on.set()
    await asyncio.wait_for(writing, HANG_S)
    assert await desk.get(STATUS) is None
    assert await desk.writer(DONE) == "r"


async def test_no_status_is_still_being_written_when_the_program_ends(desk: Desk) -> None:
    run = await desk.run("r")
    held = desk.store.hold("put", STATUS)
    async with desk.publisher.open(run) as status:
        status.move("queued")
        await asyncio.wait_for(held.arrived.wait(), HANG_S)
    await desk.publisher.end()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "status r"]


async def test_a_run_that_gives_way_leaves_the_newer_ones_status(desk: Desk) -> None:
    old = await desk.run("old")
    new = await desk.replace(old, "new")
    async with desk.publisher.open(new) as status:
        status.move("queued")

        async def written() -> bool:
            return await desk.writer(STATUS) == "new"

        await desk.until(written)
        assert await desk.finalizer.failed(old, None, RunSuperseded("Newer.").info, ()) is None
        assert await desk.writer(STATUS) == "new"


@pytest.mark.parametrize("key", ["segments.srt", DONE])
async def test_a_write_of_a_replaced_run_that_arrives_late_changes_nothing(desk: Desk, key: str) -> None:
    old = await desk.run("old")
    held = desk.store.hold("replace", key)
    late = asyncio.create_task(desk.finish(old, b"old text"))
    await asyncio.wait_for(held.arrived.wait(), HANG_S)
    new = await desk.replace(old, "new")
    await desk.finish(new, b"new text")
    held.go_on.set()
    with pytest.raises(RunSuperseded):
        await late
    await desk.finalizer.failed(old, ASKED, RunSuperseded("Newer.").info, ())
    assert await desk.get("segments.srt") == b"new text"
    assert await desk.writer(DONE) == "new"
    assert await desk.get(ERROR) is None
    assert (await desk.state(old), await desk.state(new)) == ("superseded", "done")


async def test_the_last_word_of_a_replaced_run_does_not_stay_beside_the_newer_ones(desk: Desk) -> None:
    old = await desk.run("old")
    held = desk.store.hold("replace", DONE)
    late = asyncio.create_task(desk.finish(old, b"old text"))
    await asyncio.wait_for(held.arrived.wait(), HANG_S)
    new = await desk.replace(old, "new")
    body = await desk.finalizer.failed(new, None, MISSING, ())
    held.go_on.set()
    with pytest.raises(RunSuperseded):
        await late
    assert await desk.finalizer.failed(old, ASKED, RunSuperseded("Newer.").info, ()) is None
    assert await desk.get(DONE) is None
    assert await desk.get(ERROR) == body
    assert await desk.get("segments.srt") is None, "the replaced run's output stays"


async def test_an_end_that_is_on_record_takes_nothing_back(desk: Desk) -> None:
    """A telling that does not know of it, in another process or after a crash, finds the run closed."""
    run = await desk.run("r")
    await desk.finish(run, b"text")
    await desk.store.delete(desk.bucket, DONE)
    with pytest.raises(RunSuperseded):
        await desk.finish(run, b"other text")
    for error in (RunSuperseded("Newer.").info, MISSING):
        assert await desk.finalizer.failed(run, ASKED, error, ()) is None
    assert await desk.get("segments.srt") == b"text"
    assert await desk.get(ERROR) is None
    assert await desk.state(run) == "done"


async def test_a_cancelled_run_that_is_replaced_leaves_no_error(desk: Desk) -> None:
    """Its manifest was deleted and dropped again before it had ended."""
    old = await desk.run("old")
    await desk.records.runs.request_end("old", "cancelled")
    await supersede(desk, old)
    assert await desk.finalizer.failed(old, None, ErrorInfo("cancelled", "The run was cancelled."), ()) is None
    assert await desk.get(ERROR) is None
    assert await desk.state(old) == "superseded"


async def supersede(desk: Desk, old: RunRequest) -> None:
    row = RunRow("new", old.bucket, old.key, "t", "accepted", 2.0, 2.0, {})
    item = InboxEntry(InboxEvent(old.bucket, old.key, True, "test", 2.0), 1, 0)
    await IntakeLedger(desk.records.database).commit([IntakeDecision(item, SeenVersion("f"), row)], reason="cancelled")


@pytest.mark.parametrize(("document", "state", "code"), [(done, "done", ""), (failed, "failed", "input_missing")])
async def test_an_end_that_a_sidecar_of_the_runs_own_tells_of_is_adopted(
    desk: Desk, document: Callable[[RunRequest], bytes], state: str, code: str
) -> None:
    run = await desk.run("r")
    body = document(run)
    await desk.put(DONE if state == "done" else ERROR, body)
    await desk.put(STATUS, json.dumps({"run_id": "r", "key": run.key}).encode())
    assert await desk.adoption.begin(run) == body
    row = await desk.records.runs.find("r")
    assert row
    assert (row.state, row.error_code) == (state, code)
    assert await desk.get(STATUS) is None
    assert await desk.adoption.final_sidecar(run) == body


async def test_an_end_that_tells_of_what_no_store_holds_is_adopted_all_the_same(desk: Desk) -> None:
    run = await desk.run("r")
    await desk.put("out/segments.srt", b"1")
    await desk.put(DONE, done(run, "out/" + "x" * 900, "out/segments.srt"))
    assert await desk.adoption.begin(run)
    assert (row := await desk.records.runs.find("r")) and row.state == "done"
    assert await desk.records.objects.written(desk.bucket, "out/segments.srt")


async def test_outputs_of_an_adopted_end_are_known(desk: Desk) -> None:
    run = await desk.run("r")
    await desk.put("out/segments.srt", b"1")
    await desk.put(DONE, done(run, "out/segments.srt", "gone.json"))
    assert await desk.adoption.begin(run)
    meta = await desk.store.head(desk.bucket, "out/segments.srt")
    assert not await desk.records.objects.unknown(desk.bucket, [meta])
    assert await desk.records.objects.written(desk.bucket, "gone.json") is None


async def test_outputs_of_an_adopted_end_are_looked_at_together(desk: Desk) -> None:
    run = await desk.run("r")
    keys = [f"out/{i}.srt" for i in range(READ_BATCH + 1)]
    await desk.put(DONE, done(run, *keys))
    *held, last = [desk.store.hold("head", key) for key in keys]
    adopting = asyncio.create_task(desk.adoption.begin(run))
    async with asyncio.timeout(HANG_S):
        await asyncio.gather(*(call.arrived.wait() for call in held))
    assert not last.arrived.is_set()
    for call in (*held, last):
        call.go_on.set()
    assert await adopting


async def test_the_first_look_that_fails_ends_the_others(desk: Desk) -> None:
    run = await desk.run("r")
    keys = [f"out/{i}.srt" for i in range(READ_BATCH)]
    await desk.put(DONE, done(run, *keys))
    first, *held = [desk.store.hold("head", key) for key in keys]
    adopting = asyncio.create_task(desk.adoption.begin(run))
    async with asyncio.timeout(HANG_S):
        await asyncio.gather(*(call.arrived.wait() for call in (first, *held)))
        first.fails = StoreUnavailable("It is away.", hint="Wait.")
        first.go_on.set()
        with pytest.raises(StoreUnavailable):
            await adopting
    assert (row := await desk.records.runs.find("r")) and not row.ended


async def test_a_sidecar_makes_nothing_the_runs_that_is_elsewhere_and_was_not_planned(desk: Desk) -> None:
    """A dropper plants one beside its drop, which names what others have there, and drops again."""
    run = await desk.records.add(run_of("r", "mine/a.job.json", bucket=desk.bucket))
    await OutputOwners(desk.records.database).claim(desk.bucket, ["out/planned.srt"], KeyClaim("r", run.key, 0))
    for key in ("mine/in.srt", "out/planned.srt", "victim/film.mp4", "film.mp4"):
        await desk.put(key, b"1")
    body = done(run, "mine/in.srt", "out/planned.srt", "victim/film.mp4", "film.mp4", "mine/a.job.json")
    await desk.put("mine/a.done.json", body)
    await desk.put("mine/a.job.json", b"{}")
    assert await desk.adoption.begin(run)
    own = {key for key, _ in await desk.records.objects.written_by(desk.bucket, "r")}
    assert own == {"mine/in.srt", "out/planned.srt"}
    # As if its end had not been recorded: it gives way to a newer run, and takes back what is its own.
    await desk.records.set_back("r")
    await desk.records.runs.request_end("r", "superseded")
    assert await desk.finalizer.failed(run, None, RunSuperseded("no").info, []) is None
    assert await desk.get("victim/film.mp4") == await desk.get("film.mp4") == b"1"
    assert await desk.get("out/planned.srt") is None


FORGED = [
    b"",
    b"{",
    b"[]",
    b"[" * 100_000,
    b'{"run_id": "r", "key": "a.job.json"}',
    b'{"run_id": "r", "key": "other.job.json", "code": 200}',
    b'{"run_id": "r", "key": "a.job.json", "code": 200, "outputs": [{"key": "../x"}]}',
    b'{"run_id": "r", "key": "a.job.json", "code": 200, "outputs": [{"key": 7}]}',
    b'{"run_id": "r", "key": "a.job.json", "code": 404}',
    b'{"run_id": "another", "key": "a.job.json", "code": 200}',
    b'{"run_id": ["r"], "key": "a.job.json", "code": 200}',
]


@pytest.mark.parametrize("body", FORGED, ids=lambda body: body[:40].decode())
@pytest.mark.parametrize("key", [DONE, ERROR])
async def test_what_is_no_sidecar_of_the_run_is_cleared_away(desk: Desk, key: str, body: bytes) -> None:
    run = await desk.run("r")
    await desk.put(key, body)
    assert await desk.adoption.begin(run) is None
    assert await desk.get(key) is None
    assert await desk.state(run) == "accepted"
    assert await desk.adoption.final_sidecar(run) is None


@pytest.mark.parametrize("size", [5, 7])
async def test_an_output_that_a_late_worker_of_an_older_run_wrote_over_is_not_delivered(desk: Desk, size: int) -> None:
    run = await desk.run("r")
    target = TaskTarget("video_1.mp4", "clips/video_1.mp4", "video/mp4")
    plan = Plan("img2vid", (PlannedTask(Img2VidParams(clips=()), (), (target,)),))
    result = GpuResult("t", Videos((VideoFile("video_1.mp4", size, 1.0, 320, 180, 24),), "libx264"))
    await desk.put(target.key, b"older")
    if size == 5:
        assert (await desk.finalizer.write(run, plan, [result], in_memory(Finished("ok")), [])).files[0].size == 5
        return
    with pytest.raises(OutputReplaced, match="7 bytes"):
        await desk.finalizer.write(run, plan, [result], in_memory(Finished("ok")), [])


async def test_a_run_that_is_replaced_clears_nothing_away(desk: Desk) -> None:
    old = await desk.run("old")
    new = await desk.replace(old, "new")
    await desk.put(DONE, done(new))
    with suppress(RunSuperseded):
        await desk.adoption.begin(old)
    assert await desk.writer(DONE) == "new"
