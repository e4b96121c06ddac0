import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.backend import JobStatus
from gpu_dispatch.runpod.dialects.whisper_hub import WhisperHubDialect
from gpu_dispatch.runpod.endpoint import health_text
from gpu_dispatch.runpod.errors import reply_text
from gpu_dispatch.runpod.responses import (
    JobResponse,
    endpoint_response_from,
    job_response_from,
    job_status_of,
    merged,
    with_task_id,
)
from gpu_dispatch.runpod.submission import submission_policy_of
from gpu_dispatch.task import GpuResult, Progress, State
from gpu_dispatch.transcript import Transcript
from support.runpod_endpoints import HEARD

HUB = WhisperHubDialect()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda v: st.lists(v) | st.dictionaries(st.text(), v),
)


def answer(**fields: Any) -> JobResponse:
    read = job_response_from(json.dumps(fields).encode())
    assert read
    return read


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("IN_QUEUE", "queued"),
        ("IN_PROGRESS", "running"),
        ("RUNNING", "running"),
        ("COMPLETED", "completed"),
        ("FAILED", "failed"),
        ("CANCELLED", "cancelled"),
        ("TIMED_OUT", "timed_out"),
        ("completed", "completed"),
        ("MIGRATING", "running"),
        ("", None),
    ],
)
def test_every_status_word_means_a_state_and_an_unknown_one_no_end(word: str, state: State | None) -> None:
    assert answer(status=word).state == state


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(["id", "status", "delayTime", "executionTime", "output"], json_values)
    )
)
def test_odd_values_count_as_nothing(fields: dict[str, Any]) -> None:
    read = answer(**fields)
    assert read.delay_ms >= 0 and read.execution_ms >= 0 and isinstance(read.id, str)


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"[1]", b'"COMPLETED"', b"null", b'{"id": "a"', b"\xff\xfe"])
def test_what_is_no_object_is_no_answer(body: bytes) -> None:
    assert job_response_from(body) is None
    assert endpoint_response_from(body) is None


def test_times_are_the_providers_because_those_are_paid() -> None:
    status = job_status_of(answer(status="COMPLETED", delayTime=1200, executionTime=3400.4, output=HEARD), "j1", HUB)
    assert status.result and isinstance(status.result.payload, Transcript)
    assert (status.result.delay_ms, status.result.execution_ms) == (1200, 3400)


def test_completed_without_output_has_no_result() -> None:
    assert job_status_of(answer(status="COMPLETED"), "j1", HUB) == JobStatus("completed")


@pytest.mark.parametrize("output", [None, {}, HEARD])
def test_failed_without_a_word_is_still_an_error(output: Any) -> None:
    status = job_status_of(answer(status="FAILED", output=output), "j1", HUB)
    assert status.state == "failed" and status.result and status.result.error and not status.result.payload
    assert status.result.error.code == "worker_crashed" and status.result.error.retryable


def test_the_sdks_report_of_an_exception_is_told_in_words() -> None:
    report = json.dumps(
        {"error_type": "<class 'RuntimeError'>", "error_message": "CUDA out of memory", "error_traceback": "…"}
    )
    status = job_status_of(answer(status="FAILED", error=report), "j1", HUB)
    assert status.result and status.result.error and status.result.error.code == "worker_crashed"
    assert "CUDA out of memory" in status.result.error.message and "traceback" not in status.result.error.message


@pytest.mark.parametrize(("word", "code"), [("CANCELLED", "cancelled"), ("TIMED_OUT", "task_timed_out")])
def test_an_end_that_the_provider_made_says_so(word: str, code: str) -> None:
    status = job_status_of(answer(status=word, executionTime=9), "j1", HUB)
    assert status.result and status.result.error and status.result.error.code == code
    assert status.result.execution_ms == 9


def test_after_a_cancel_nothing_runs_any_more_but_a_result_still_counts() -> None:
    assert job_status_of(answer(status="IN_PROGRESS"), "j1", HUB, cancelled=True).state == "cancelled"
    assert job_status_of(answer(status="COMPLETED", output=HEARD), "j1", HUB, cancelled=True).state == "completed"


final = st.sampled_from([JobStatus(s) for s in ("completed", "failed", "cancelled", "timed_out", "lost")])
anything = final | st.builds(
    JobStatus,
    st.sampled_from(["queued", "running"]),
    st.none() | st.builds(Progress, st.floats(0, 100), st.just("encode")),
)


@given(final, anything)
def test_an_end_is_never_taken_back(known: JobStatus, news: JobStatus) -> None:
    assert merged(known, news) == known


@given(st.lists(st.floats(0, 100), min_size=1))
def test_progress_of_a_running_job_never_falls(percents: list[float]) -> None:
    known: JobStatus | None = None
    seen: list[float] = []
    for percent in percents:
        known = merged(known, JobStatus("running", Progress(percent, "encode")))
        assert known.progress
        seen.append(known.progress.percent)
    assert seen == sorted(seen)


def test_a_job_that_is_queued_again_begins_at_nothing() -> None:
    queued = merged(JobStatus("running", Progress(80.0, "encode")), JobStatus("queued"))
    assert queued == JobStatus("queued")
    assert merged(queued, JobStatus("running", Progress(5.0, "load"))).progress == Progress(5.0, "load")


def test_a_task_id_is_filled_in_only_where_the_worker_told_none() -> None:
    mine = JobStatus("completed", result=GpuResult("j1"))
    told = JobStatus("completed", result=GpuResult("run-1/0"))
    assert with_task_id(mine, "j1", "t1").result == GpuResult("t1")
    assert with_task_id(told, "j1", "t1") is told and with_task_id(mine, "j1", "") is mine


def test_words_of_a_page_are_its_text_without_keys_and_signatures() -> None:
    page = b"<html><style>p{}</style><h1>Bad   Gateway</h1> rpa_SECRETKEY Bearer abc https://s/x?X-Amz-Signature=1 k3y"
    words = reply_text(page, "k3y")
    assert words.startswith("Bad Gateway")
    assert not any(secret in words for secret in ("SECRETKEY", "abc", "Signature", "k3y", "p{}"))


@pytest.mark.parametrize(
    "body", [b'{"error": "queue is full"}', b'{"message": "queue is full"}', b'{"title":"queue is full"}']
)
def test_words_of_a_json_error_are_its_message(body: bytes) -> None:
    assert reply_text(body, "") == "queue is full"


@given(st.binary())
def test_words_are_few_whatever_was_answered(body: bytes) -> None:
    assert len(reply_text(body, "key")) <= 161


@given(st.floats(0.0, 1e7), st.none() | st.floats(0.0, 1e7), st.floats(0.0, 1e7))
def test_a_policy_keeps_to_the_providers_bounds(task_s: float, endpoint_s: float | None, ttl_s: float) -> None:
    policy = submission_policy_of(task_s, endpoint_s=endpoint_s, ttl_s=ttl_s, low_priority=False)
    assert 5_000 <= policy.execution_ms <= policy.ttl_ms <= 7 * 86_400_000


def test_the_worker_gives_up_before_the_provider_does() -> None:
    assert submission_policy_of(600.0, endpoint_s=None, ttl_s=60.0, low_priority=True).execution_ms == 690_000
    assert submission_policy_of(600.0, endpoint_s=100.0, ttl_s=60.0, low_priority=True).execution_ms == 190_000


@pytest.mark.parametrize(
    ("workers", "queued", "ok", "said"),
    [
        ({"idle": 0, "running": 0}, 0, True, "workers: none"),
        ({"idle": 1}, 3, True, "1 idle"),
        ({"initializing": 1, "unhealthy": 2}, 3, True, "2 unhealthy"),
        ({"idle": 0, "running": 0, "throttled": 0}, 2, False, "No worker"),
        ({"throttled": 3, "idle": 0}, 0, False, "throttled"),
        ({"unhealthy": 2}, 5, False, "crash"),
        ({"unhealthy": 2}, 0, True, "2 unhealthy"),
        ({}, 5, True, "5 queued"),
        ({"idle": "many", "running": None}, 1, False, "No worker"),
    ],
)
def test_health_says_what_keeps_jobs_waiting(workers: dict[str, Any], queued: int, ok: bool, said: str) -> None:
    read = endpoint_response_from(json.dumps({"jobs": {"inQueue": queued}, "workers": workers}).encode())
    assert read
    line = health_text("fast", read)
    assert line.ok is ok and said in line.detail and line.name == "fast"
    assert bool(line.remedy) is not ok


@pytest.mark.parametrize("body", [b"{}", b'{"jobs": null, "workers": []}', b'{"jobs": 1, "workers": "idle"}'])
def test_health_without_counts_is_no_trouble(body: bytes) -> None:
    read = endpoint_response_from(body)
    assert read and health_text("fast", read).ok
