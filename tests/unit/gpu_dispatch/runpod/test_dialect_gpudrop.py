"""Our own workers' dialect: what is sent is what they read, and what they answer is taken as it was meant."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.runpod.dialects.gpudrop import GpudropDialect
from gpu_dispatch.runpod.dialects.registry import dialects
from gpu_dispatch.task import (
    AddAudioParams,
    ClaimUrls,
    GpuResult,
    GpuTask,
    Progress,
    TaskInput,
    TaskOutput,
    TranscribeParams,
    VideoFile,
    Videos,
)
from gpu_dispatch.wire import result_to_wire, task_from_wire
from manifests.errors import EncodeFailed

OURS = GpudropDialect()
RESULT = GpuResult("run-j0", Videos((VideoFile("video_1.mp4", 5, 1.0, 1920, 1080, 24),), "h264_nvenc"), device="cuda")


def test_the_worker_reads_the_task_it_was_sent():
    task = GpuTask(
        "run-j0",
        AddAudioParams(video="v.mp4", audio="a.mp3", output="o.mp4"),
        (TaskInput("v.mp4", "https://s/v?X=1"), TaskInput("a.mp3", "data:,x")),
        (TaskOutput("o.mp4", "https://s/o?X=1", "video/mp4"),),
        claim=ClaimUrls("https://s/c?X=1", "https://s/c?X=2"),
        answer_url="https://s/answer?X=1",
    )
    wire = json.loads(json.dumps(OURS.request(task)))
    assert task_from_wire(wire["task"]) == task


def test_claims_are_heeded_and_nothing_is_refused():
    assert OURS.claims and dialects().get("gpudrop").name == "gpudrop"
    assert OURS.refusal(TranscribeParams(audio="a", model="tiny.en")) == ""


def test_a_result_is_taken_whole():
    assert OURS.result("job-1", {"result": json.loads(json.dumps(result_to_wire(RESULT)))}, None) == RESULT


def test_a_failure_keeps_its_code_its_hint_and_whether_to_try_again():
    error = EncodeFailed("The encoder gave up.", hint="Free a session.", where="video_1.mp4", retryable=True).info
    output = {"result": result_to_wire(GpuResult("run-j0", error=error, execution_ms=7))}
    result = OURS.result("job-1", output, "encode_failed: The encoder gave up.")
    assert result == GpuResult("run-j0", error=error, execution_ms=7)


def test_input_that_was_no_task_fails_under_the_jobs_id():
    error = EncodeFailed("No task.").info
    assert OURS.result("job-1", {"result": result_to_wire(GpuResult("", error=error))}, "x").task_id == "job-1"


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        ("duplicate_job: Job b had claimed the task.", "duplicate_job", False),
        ("transfer_failed: The store did not answer.", "transfer_failed", True),
        ("no_such_code: something", "worker_error", False),
        (json.dumps({"error_type": "<class 'OSError'>", "error_message": "disk full"}), "worker_error", False),
        ("job timed out after 1 retries", "worker_crashed", True),
    ],
)
@pytest.mark.parametrize("output", [None, {}, {"result": {"task_id": 5}}, "text"])
def test_without_its_result_a_failure_is_what_its_words_say(error, code, retryable, output):
    result = OURS.result("job-1", output, error)
    assert (result.task_id, result.error.code, result.error.retryable) == ("job-1", code, retryable)


@pytest.mark.parametrize("output", [None, {}, "", {"answer": "stored"}, {"result": None}, {"result": {}}, [1], "text"])
def test_without_a_result_the_store_tells(output):
    assert OURS.result("job-1", output, None) is None


def test_progress():
    assert OURS.progress({"percent": 41.5, "stage": "encode"}) == Progress(41.5, "encode")
    assert OURS.progress({"percent": "120"}) == Progress(100.0, "")
    for nothing in (None, "text", {}, {"percent": None}, {"stage": "encode"}, [1]):
        assert OURS.progress(nothing) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["result", "task_id", "payload", "kind", "error", "code", "percent", "stage"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(output=_JSON | st.fixed_dictionaries({"result": _JSON}), error=st.none() | _JSON)
def test_no_answer_whatsoever_breaks_the_reading_of_it(output, error):
    OURS.progress(output)
    result = OURS.result("job-1", output, error)
    assert result is not None or not error
    assert result is None or result.task_id
