"""A run from its drop to its last word: every way it ends, and every place where its listener may be killed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from listener.defects import DEFECT
from listener.dispatch.request import AttemptResult, JobRequest
from listener.run_request import RunRequest
from listener.runs.input_search import InputsAwaited
from listener.runs.memory_steps import StepRecord
from manifests.errors import (
    GpuDropError,
    InputMissing,
    JobLost,
    ObjectDenied,
    RunCancelled,
    StoreDenied,
    StoreUnavailable,
    TransferFailed,
    WorkerCrashed,
)
from support.runs import BUCKET, RunBench

TALK = {"audio": "a.mp3", "formats": ["srt", "txt"]}
SLIDES = {"images": [{"image": "a.jpg", "duration": 1}] * 4}
CALLER = "http://127.0.0.1:1/heard"
AWAY = StoreUnavailable("It is away.", hint="Wait.")


async def talk(bench: RunBench, manifest: dict[str, Any] = TALK, **changes: Any) -> RunRequest:
    await bench.put("in/a.mp3")
    await bench.put("in/a.jpg")
    return await bench.drop("in/talk", {**manifest, "path": "/out/"}, **changes)


async def test_a_drop_becomes_its_outputs_and_a_final_sidecar(bench: RunBench) -> None:
    run = await talk(bench)
    await bench.tell(run)
    done = await bench.done(run)
    assert await bench.keys() == {
        "in/a.mp3",
        "in/a.jpg",
        run.key,
        "in/talk.done.json",
        "out/segments.srt",
        "out/transcript.txt",
    }
    assert [each["key"] for each in done["outputs"]] == ["out/segments.srt", "out/transcript.txt"]
    assert (done["cost"]["usd"], done["code"], done["run_id"]) == (1.25, 200, run.run_id)
    assert await bench.state(run) == "done"
    # What its attempt left in the store has served.
    assert bench.attempts.made == [(0, 1)]
    assert bench.attempts.forgotten == [(f"{run.run_id}-j0", 1)]
    assert bench.attempts.dropped == [(f"{run.run_id}-j0", 1, False)]
    assert bench.records[run.run_id].names == ["prepare", "attempt 1", "finish"]


async def test_every_job_of_a_plan_does_its_part(bench: RunBench) -> None:
    run = await talk(bench, SLIDES)
    await bench.tell(run)
    assert sorted(bench.attempts.made) == [(0, 1), (1, 1)]
    done = await bench.done(run)
    assert len(done["jobs"]) == 2
    assert sorted(bench.records[run.run_id].children) == [0, 1]


async def test_a_run_tells_its_caller_what_its_sidecar_says(bench: RunBench) -> None:
    run = await talk(bench, {**TALK, "callback_url": CALLER})
    await bench.tell(run)
    (callback,) = await bench.callbacks.claim(
        "m1:1", now=bench.moment(), lease_s=9.0, limit=9, per_host=9, busy={}
    )  # fmt: skip
    assert callback.row.url == CALLER
    assert json.loads(callback.body) == await bench.done(run)
    assert bench.records[run.run_id].names[-1] == "callback"


STORIES = {
    "one job": TALK,
    "several jobs": SLIDES,
    "with a callback": {**TALK, "callback_url": CALLER},
    "one that fails": {**TALK, "callback_url": CALLER, "model": "fails"},
}


@pytest.mark.parametrize("manifest", STORIES.values(), ids=STORIES)
@pytest.mark.parametrize("recorded", range(5))
async def test_told_again_from_any_step_it_ends_the_same_and_does_nothing_twice(
    bench: RunBench, manifest: dict[str, Any], recorded: int
) -> None:
    if manifest.get("model") == "fails":
        bench.attempts.ends[0, 1] = InputMissing("It is not there.")
    run = await talk(bench, manifest)
    await bench.tell(run)
    before = {key: await bench.get(key) for key in await bench.keys()}
    made, state = list(bench.attempts.made), await bench.state(run)
    record = bench.records[run.run_id]
    bench.records[run.run_id] = StepRecord(record.steps[:recorded], record.children if recorded else {})
    bench.moment.now += 60.0
    await bench.tell(run)
    assert {key: await bench.get(key) for key in await bench.keys()} == before
    assert await bench.state(run) == state
    # A run whose final sidecar lies there has ended if nothing is recorded; an attempt that is not is made again: what
    # that does is dispatch's own to know.
    again = [(0, 1)] if recorded == 1 and len(made) == 1 else []
    assert bench.attempts.made == made + again
    assert await bench.callbacks.counts() == ({"waiting": 1} if "callback_url" in manifest else {})


async def test_a_manifest_that_cannot_be_used_ends_its_run_with_a_dead_letter(bench: RunBench) -> None:
    run = await talk(bench, {"audioo": "a.mp3", "callback_url": CALLER})
    await bench.tell(run)
    failed = await bench.failed(run)
    assert failed["run_id"] == run.run_id
    assert await bench.state(run) == "failed"
    letter = json.loads(await bench.get(failed["dead_letter"]) or b"{}")
    assert (letter["run_id"], letter["error"]["code"]) == (run.run_id, failed["code"])
    # Whoever waits for it hears of it, although it was not understood.
    assert await bench.callbacks.counts() == {"waiting": 1}
    assert bench.attempts.made == []


@pytest.mark.parametrize(
    ("error", "attempts", "slept"),
    [
        (InputMissing("It is not there."), 1, 0),
        (TransferFailed("It broke off.", retryable=True), 3, 2),
        (WorkerCrashed("It is gone.", retryable=True), 3, 2),
    ],
)
async def test_an_attempt_that_may_end_better_is_made_again(
    bench: RunBench, error: GpuDropError, attempts: int, slept: int
) -> None:
    run = await talk(bench, max_attempts=3)
    bench.attempts.ends |= {(0, number): error for number in range(1, 9)}
    await bench.tell(run)
    failed = await bench.failed(run)
    assert (failed["code"], failed["attempts"]) == (error.code, attempts)
    assert bench.attempts.made == [(0, number) for number in range(1, attempts + 1)]
    assert len(bench.slept) == slept


async def test_attempts_whose_process_went_away_wait_for_nothing(bench: RunBench) -> None:
    run = await talk(bench, max_attempts=1)
    now = bench.moment()
    lost = AttemptResult(now, now, error=JobLost("gone", retryable=True).info, counts=False)
    bench.attempts.ends |= {(0, 1): lost, (0, 2): lost}
    await bench.tell(run)
    await bench.done(run)
    assert (bench.attempts.made, bench.slept) == ([(0, 1), (0, 2), (0, 3)], [])


async def test_a_claim_that_stays_is_withdrawn_with_its_answer(bench: RunBench) -> None:
    bench.attempts.forgets = False
    run = await talk(bench)
    await bench.tell(run)
    assert bench.attempts.dropped == [(f"{run.run_id}-j0", 1, True)]


async def test_of_several_jobs_the_one_that_failed_tells_why(bench: RunBench) -> None:
    bench.attempts.ends[1, 1] = InputMissing("It is not there.")
    bench.attempts.ends[0, 1] = RunCancelled("Another job of the run failed for good.")
    run = await talk(bench, SLIDES)
    await bench.tell(run)
    assert (await bench.failed(run))["code"] == InputMissing.code
    row = await bench.runs.find(run.run_id)
    assert row and (row.state, row.cancel) == ("failed", "incomplete")


async def test_a_defect_ends_its_run_and_says_so(bench: RunBench) -> None:
    async def broken(request: JobRequest) -> AttemptResult:
        raise KeyError(request.key)

    bench.attempts.ends[0, 1] = broken
    run = await talk(bench)
    await bench.tell(run)
    assert (await bench.failed(run))["code"] == DEFECT.code


async def meanwhile(bench: RunBench, run: RunRequest, reason: Any, *, at: str) -> None:
    """The run is asked to end: before it begins, while its job runs, or when it is about to write."""
    request_end = bench.runs.request_end

    async def end() -> None:
        await request_end(run.run_id, reason)
        bench.parts.cancellations.request(run.run_id, reason)

    async def worked(request: JobRequest) -> AttemptResult:
        await end()
        now = bench.moment()
        return AttemptResult(now, now, result=await bench.attempts.worked(request))

    if at == "begin":
        await end()
    elif at == "job":
        bench.attempts.ends[0, 1] = worked
    else:
        bench.store.before["replace", f"out/{at}"] = end


@pytest.mark.parametrize("at", ["begin", "job", "transcript.txt"])
async def test_a_cancelled_run_says_so_and_leaves_no_dead_letter(bench: RunBench, at: str) -> None:
    run = await talk(bench)
    await meanwhile(bench, run, "cancelled", at=at)
    await bench.tell(run)
    failed = await bench.failed(run)
    assert (failed["code"], failed.get("dead_letter")) == (RunCancelled.code, None)
    assert await bench.state(run) == "cancelled"
    assert not await bench.keys("_dlq/")


@pytest.mark.parametrize("at", ["begin", "job", "transcript.txt"])
async def test_a_run_that_is_replaced_leaves_nothing(bench: RunBench, at: str) -> None:
    run = await talk(bench, {**TALK, "callback_url": CALLER})
    await meanwhile(bench, run, "superseded", at=at)
    await bench.tell(run)
    assert await bench.keys() == {"in/a.mp3", "in/a.jpg", run.key}
    assert await bench.state(run) == "superseded"
    assert await bench.callbacks.counts() == {}


async def test_a_run_whose_input_stays_missing_leaves_and_keeps_its_status(bench: RunBench) -> None:
    bench.parts.admission.full = True
    run = await bench.drop("in/talk", TALK)
    with pytest.raises(InputsAwaited) as left:
        await bench.tell(run)
    assert left.value.missing == {(BUCKET, "in/a.mp3")}
    status = await bench.document(run, "status")
    assert status and (status["state"], status["waiting_for"]) == ("waiting", ["in/a.mp3"])
    assert bench.records[run.run_id].names == []
    await bench.put("in/a.mp3")
    await bench.tell(run)
    await bench.done(run)


@pytest.mark.parametrize(
    ("call", "key"),
    [
        ("get", "in/talk.job.json"),
        ("head", "in/a.mp3"),
        ("replace", "out/segments.srt"),
        ("replace", "in/talk.done.json"),
        ("delete", "in/talk.status.json"),
    ],
)
async def test_a_store_that_is_away_is_waited_for_and_nothing_is_made_twice(
    bench: RunBench, call: Any, key: str
) -> None:
    run = await talk(bench)
    bench.store.problem(call, key, AWAY, times=2)
    await bench.tell(run)
    await bench.done(run)
    written = [each for each in bench.store.calls if each == ("replace", "out/transcript.txt")]
    assert (bench.attempts.made, len(written)) == ([(0, 1)], 1)


async def test_a_store_that_never_comes_back_ends_the_run_at_last(bench: RunBench) -> None:
    """Here the run's own step ends it: an error about the drop itself, once events are too old."""
    run = await talk(bench, max_event_age_s=-1.0)
    await bench.tell(run)
    assert (await bench.failed(run))["code"] == "event_too_old"


async def test_a_last_word_that_cannot_be_written_is_told_by_the_ledger(bench: RunBench) -> None:
    run = await talk(bench, {"audioo": "a.mp3"})
    bench.store.problem("replace", "in/talk.error.json", ObjectDenied("It may not."), times=99)
    await bench.tell(run)
    assert await bench.document(run, "error") is None
    row = await bench.runs.find(run.run_id)
    assert row and (row.state, row.error_code) == ("failed", ObjectDenied.code)


async def test_a_status_that_cannot_be_taken_back_then_is_left(bench: RunBench) -> None:
    run = await talk(bench, {"audioo": "a.mp3"})
    bench.store.problem("replace", "in/talk.error.json", ObjectDenied("It may not."), times=99)
    bench.store.problem("get", "in/talk.status.json", StoreDenied("It may not."), times=99)
    await bench.tell(run)
    assert await bench.state(run) == "failed"


async def test_the_place_of_a_run_is_free_whatever_comes_of_it(bench: RunBench) -> None:
    told = bench.parts.admission
    for name, manifest in (("good", TALK), ("bad", {"no": 1})):
        run = await bench.drop(f"in/{name}", manifest)
        await bench.put("in/a.mp3")
        told.starting(run.run_id, "share")
        await bench.tell(run)
    assert sum(told.bounds(9, {})[0].held.values()) == 0


async def test_a_callback_of_an_end_in_an_earlier_life_is_made_from_the_sidecar(bench: RunBench) -> None:
    run = await talk(bench, {**TALK, "callback_url": CALLER})
    await bench.tell(run)
    record = bench.records[run.run_id]
    del record.steps[-1]
    await bench.callbacks.forget(0.0)
    await bench.tell(run)
    assert await bench.callbacks.counts() == {"waiting": 1}


async def test_no_callback_is_made_from_another_runs_sidecar(bench: RunBench) -> None:
    run = await talk(bench, {**TALK, "callback_url": CALLER})
    await bench.tell(run)
    bench.records[run.run_id] = StepRecord(bench.records[run.run_id].steps[:3])
    await bench.put("in/talk.done.json", {**(await bench.done(run)), "run_id": "another"})
    (mine,) = await bench.callbacks.claim("m1:1", now=bench.moment(), lease_s=9.0, limit=9, per_host=9, busy={})
    await bench.tell(run)
    assert (await bench.callbacks.of([run.run_id]))[run.run_id].holder == mine.row.holder
