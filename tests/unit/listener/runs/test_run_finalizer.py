"""How runs end: outputs made sure of, the last word written, and nothing left by those that a newer run replaces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gpu_dispatch.backend import JobRef
from gpu_dispatch.task import GpuResult, Img2VidParams, TranscribeParams, VideoFile, Videos
from handlers.base import Link, Plan, PlannedTask, TaskTarget
from listener.ledger.ownership import KeyClaim, OutputOwners
from listener.run_request import RunRequest
from listener.runs.finalizer import RunSummary, WrittenFile
from listener.runs.jobs import AttemptRecord
from listener.runs.manifests import ResolvedManifest
from listener.runs.outputs import MadeOutput, MadeOutputs
from manifests.errors import (
    EncodeFailed,
    ErrorInfo,
    GpuDropError,
    OutputMissing,
    OutputReplaced,
    RunCancelled,
    RunSuperseded,
    StoreDenied,
)
from support.runs import BUCKET, NOW, RunBench, TroubledStore, opened

ASKED = ResolvedManifest("transcribe", {"operation": "transcribe", "metadata": {"order": 7}}, "{}")
FAILED = EncodeFailed("It cannot be encoded.", hint="Use another codec.").info
TARGET = TaskTarget("o.mp4", "out/o.mp4", "video/mp4")
OURS = Plan("transcribe", (PlannedTask(TranscribeParams(audio="a"), ()),))
WORKERS = Plan("img2vid", (PlannedTask(Img2VidParams(clips=()), (), (TARGET,)),))


def made(*keys: str, **response: Any) -> MadeOutputs:
    return MadeOutputs("done", tuple(MadeOutput(key, "text/plain", b"text") for key in keys), response, {"words": 3})


def answer(size: int | None) -> GpuResult:
    files = () if size is None else (VideoFile("o.mp4", size, 1.0, 1, 1, 24),)
    return GpuResult("t", payload=Videos(files, "x"), delay_ms=5, execution_ms=7)


async def run_of(bench: RunBench, *keys: str) -> RunRequest:
    run = await bench.drop("in/talk", {"audio": "a.mp3"})
    assert await OutputOwners(bench.database).claim(BUCKET, keys, KeyClaim(run.run_id, run.key, 0)) == ()
    return run


async def test_what_a_handler_answers_stands_in_the_done_sidecar_with_its_links_resolved(bench: RunBench) -> None:
    run = await run_of(bench, "out/a.srt")
    outputs = made("out/a.srt", files=(Link("out/a.srt"), {"of": Link("b c")}), count=1)
    results = [GpuResult("t1", delay_ms=5, execution_ms=7), GpuResult("t2", delay_ms=9, execution_ms=1)]
    closer = bench.parts.finalizer
    summary = await closer.write(
        run, Plan("x", (OURS.tasks[0],) * 2), results, outputs, [JobRef("gpu", "ep", "job-1")]
    )  # fmt: skip
    assert summary.response == {"files": ["memory://drop/out/a.srt", {"of": "memory://drop/b%20c"}], "count": 1}
    assert summary.stats == {"jobId": "job-1", "delayTime": 9, "executionTime": 8, "words": 3}
    body = await closer.done(run, ASKED, summary)
    assert json.loads(body) == await bench.done(run)
    done = await bench.done(run)
    assert (done["metadata"], done["jobs"][0]["id"]) == ({"order": 7}, "job-1")
    assert [each["key"] for each in done["outputs"]] == ["out/a.srt"]
    written = await bench.objects.written(BUCKET, "out/a.srt")
    assert written and written.version != ""


async def test_links_that_end_say_when(tmp_path: Path) -> None:
    class Expiring(TroubledStore):
        @property
        def links_expire(self) -> bool:
            return True

    async with AsyncExitStack() as stack:
        bench = await opened(tmp_path, stack, store=Expiring)
        run = await run_of(bench)
        await bench.parts.finalizer.done(run, ASKED, RunSummary("done", (), {}, {}))
        assert "2027-01-15T09:00" in json.dumps(await bench.done(run))


@pytest.mark.parametrize(
    ("there", "told", "error"),
    [
        (b"film", 4, None),
        (b"film", None, None),
        (None, 4, OutputMissing),
        (b"", None, OutputMissing),
        (b"another film", 4, OutputReplaced),
    ],
)
async def test_what_workers_left_is_made_sure_of(
    bench: RunBench, there: bytes | None, told: int | None, error: type[GpuDropError] | None
) -> None:
    run = await run_of(bench, TARGET.key)
    if there is not None:
        await bench.put(TARGET.key, there)
    write = bench.parts.finalizer.write(run, WORKERS, [answer(told)], made(), [])
    if error:
        with pytest.raises(error):
            await write
    else:
        assert (await write).files == (WrittenFile(TARGET.key, len(there or b"")),)


async def test_what_is_written_over_meanwhile_is_not_the_runs(bench: RunBench) -> None:
    run = await run_of(bench, "out/a.srt")
    bench.store.before["head", "out/a.srt"] = lambda: bench.put("out/a.srt", b"somebody else's")
    summary = await bench.parts.finalizer.write(run, OURS, [GpuResult("t")], made("out/a.srt"), [])
    assert summary.files == (WrittenFile("out/a.srt", 4),)
    await bench.runs.request_end(run.run_id, "superseded")
    assert await bench.parts.finalizer.failed(run, ASKED, FAILED, ()) is None
    assert await bench.get("out/a.srt") == b"somebody else's"


async def test_of_a_write_that_breaks_off_the_run_knows_what_it_wrote(bench: RunBench) -> None:
    run = await run_of(bench, "out/a.srt", "out/b.srt")
    bench.store.problem("replace", "out/b.srt", StoreDenied("No."), times=9)
    with pytest.raises(StoreDenied):
        await bench.parts.finalizer.write(run, OURS, [GpuResult("t")], made("out/a.srt", "out/b.srt"), [])
    await bench.runs.request_end(run.run_id, "superseded")
    assert await bench.parts.finalizer.failed(run, ASKED, FAILED, ()) is None
    assert await bench.keys("out/") == set()


ERRORS: dict[str, tuple[ErrorInfo, str, bool]] = {
    "for good": (FAILED, "failed", True),
    "cancelled": (RunCancelled("It was cancelled.").info, "cancelled", False),
}


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("asked", [ASKED, None], ids=["understood", "not understood"])
async def test_an_error_sidecar_tells_what_came_of_every_attempt(
    bench: RunBench, case: str, asked: ResolvedManifest | None
) -> None:
    error, state, letter = ERRORS[case]
    run = await run_of(bench)
    attempts = [
        AttemptRecord("t", 1, JobRef("gpu", "ep", "job-1"), FAILED, NOW, NOW + 1),
        AttemptRecord("t", 2, None, error, NOW + 2, NOW + 3),
    ]
    assert await bench.parts.finalizer.failed(run, asked, error, attempts)
    failed = await bench.failed(run)
    assert (failed["code"], failed["attempts"], await bench.state(run)) == (error.code, 2, state)
    keys = await bench.keys("_dlq/")
    assert keys == ({failed["dead_letter"]} if letter else set())
    if letter:
        document = json.loads(await bench.get(failed["dead_letter"]) or b"")
        assert [(a["number"], a["job"] and a["job"]["id"]) for a in document["attempts"]] == [(1, "job-1"), (2, None)]
        assert document["operation"] == (asked and "transcribe")


async def test_a_run_that_has_ended_says_nothing_more(bench: RunBench) -> None:
    run = await run_of(bench)
    await bench.runs.update(run.run_id, state="done", at=NOW)
    assert await bench.parts.finalizer.failed(run, ASKED, FAILED, ()) is None
    assert await bench.document(run, "error") is None
    with pytest.raises(RunSuperseded):
        await bench.parts.finalizer.done(run, ASKED, RunSummary("done", (), {}, {}))


async def replaced(bench: RunBench, run: RunRequest) -> None:
    await bench.runs.request_end(run.run_id, "superseded")


Way = Callable[[RunBench, RunRequest], Awaitable[ErrorInfo]]


async def by_its_error(bench: RunBench, run: RunRequest) -> ErrorInfo:
    del bench, run
    return RunSuperseded("A newer one.").info


async def by_the_ledger(bench: RunBench, run: RunRequest) -> ErrorInfo:
    await replaced(bench, run)
    return FAILED


async def in_that_moment(bench: RunBench, run: RunRequest) -> ErrorInfo:
    bench.store.before["replace", run.sidecar("error")] = lambda: replaced(bench, run)
    return FAILED


@pytest.mark.parametrize("way", [by_its_error, by_the_ledger, in_that_moment])
async def test_a_run_that_is_replaced_takes_back_what_is_its_own(bench: RunBench, way: Way) -> None:
    run = await run_of(bench, "out/a.srt", "out/b.srt", "out/c.srt")
    await bench.parts.finalizer.write(run, OURS, [GpuResult("t")], made("out/a.srt", "out/b.srt"), [])
    await bench.put("out/b.srt", b"a user's")
    await bench.put("out/a.srt", b"by a late worker", run_id=run.run_id)
    await bench.put(run.sidecar("done"), {"run_id": "newer", "key": run.key, "code": 200})
    error = await way(bench, run)
    assert await bench.parts.finalizer.failed(run, ASKED, error, ()) is None
    assert await bench.state(run) == "superseded"
    assert await bench.keys("out/") == {"out/b.srt"} and await bench.keys("_dlq/") == set()
    assert await bench.document(run, "error") is None
    newer = await bench.document(run, "done")
    # In that moment it had cleared the old last word away: the newer run begins after this one's end.
    assert way is in_that_moment or (newer and newer["run_id"] == "newer")
    # Keys it never wrote are anybody's again.
    other = KeyClaim("other", "in/other.job.json", 0)
    assert await OutputOwners(bench.database).claim(BUCKET, ["out/c.srt"], other) == ()


async def test_what_a_late_worker_left_of_a_failed_run_stays_its_own(bench: RunBench) -> None:
    run = await run_of(bench, "out/old.mp4", "out/new.mp4")
    bench.moment.now = NOW - 60.0
    await bench.put("out/old.mp4", b"a user's")
    bench.moment.now = NOW + 60.0
    await bench.put("out/new.mp4", b"its worker's")
    await bench.parts.finalizer.failed(run, ASKED, FAILED, ())
    assert await bench.objects.written(BUCKET, "out/old.mp4") is None
    written = await bench.objects.written(BUCKET, "out/new.mp4")
    assert written and written.run_id == run.run_id


async def test_each_last_word_makes_way_for_the_other(bench: RunBench) -> None:
    run = await run_of(bench)
    await bench.put(run.sidecar("error"), {"run_id": "older", "key": run.key, "code": "x"})
    await bench.put(run.sidecar("status"), {"run_id": run.run_id, "key": run.key})
    await bench.parts.finalizer.done(run, ASKED, RunSummary("done", (), {}, {}))
    assert await bench.keys("in/talk.") == {run.key, run.sidecar("done")}


async def test_no_status_follows_the_last_word(bench: RunBench) -> None:
    run = await run_of(bench)
    async with bench.parts.publisher.open(run) as status:
        status.move("writing")
        await bench.parts.finalizer.done(run, ASKED, RunSummary("done", (), {}, {}))
        status.move("running")
    await asyncio.sleep(0)
    assert await bench.keys("in/talk.") == {run.key, run.sidecar("done")}
