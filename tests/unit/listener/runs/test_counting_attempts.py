"""Which attempts are taken off those that a task may have."""

from __future__ import annotations

from gpu_dispatch.task import TranscribeParams
from handlers.base import PlannedTask, TaskFile
from listener.dispatch.request import AttemptResult, JobRequest, store_not_served
from listener.runs.jobs import MAX_UNCOUNTED, MAX_UNSERVED, counted
from manifests.errors import (
    GpuDropError,
    InputDenied,
    InputMissing,
    JobLost,
    QueuedTooLong,
    StoreDenied,
    SubmitUnknown,
    TransferFailed,
    WorkerError,
)
from manifests.references import ObjectRef, UrlRef

LATE = 1000.0


def tried(error: type[GpuDropError], *, at: float = 1.0, counts: bool = False) -> AttemptResult:
    return AttemptResult(0.0, at, error=error("no").info, counts=counts)


def test_what_no_worker_began_is_free_until_the_task_stops_waiting() -> None:
    hours = (tried(SubmitUnknown), tried(QueuedTooLong)) * 40
    assert counted(hours, LATE) == 0
    assert counted((*hours, tried(WorkerError, counts=True)), LATE) == 1
    assert counted((*hours, tried(SubmitUnknown, at=LATE)), LATE) == 1


def test_a_task_that_ends_its_process_again_and_again_is_not_begun_for_ever() -> None:
    assert counted((tried(JobLost),) * MAX_UNCOUNTED, LATE) == 0
    assert counted((tried(JobLost),) * (MAX_UNCOUNTED + 3), LATE) == 3


def test_attempts_that_the_store_did_not_serve_are_free_a_few_times() -> None:
    unserved = AttemptResult(0.0, 1.0, error=StoreDenied("no").info, unserved=True)
    assert counted((unserved,) * MAX_UNSERVED, LATE) == 0
    assert counted((unserved,) * (MAX_UNSERVED + 3), LATE) == 3


def test_what_another_host_refuses_is_not_the_stores_doing() -> None:
    ours, theirs = ObjectRef("drop", "a.mp3"), UrlRef("https://media.example/b.mp3")
    task = PlannedTask(TranscribeParams(audio="a.mp3"), (TaskFile("a.mp3", ours, 1), TaskFile("b.mp3", theirs, None)))
    request = JobRequest("r", "drop", "k", 0, 1, task, 3, "t", "transcribe", LATE)
    assert store_not_served(InputDenied("no", where="a.mp3").info, request)
    assert store_not_served(TransferFailed("away", where="the claim").info, request)
    assert store_not_served(StoreDenied("no", where="out.srt").info, request)
    assert not store_not_served(InputDenied("no", where="b.mp3").info, request)
    assert not store_not_served(TransferFailed("away", where="b.mp3").info, request)
    assert not store_not_served(TransferFailed("too large", where="a.mp3", retryable=False).info, request)
    assert not store_not_served(InputMissing("gone", where="a.mp3").info, request)
