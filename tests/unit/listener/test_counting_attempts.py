"""Which attempts are taken off those that a task may have."""

from __future__ import annotations

from listener.dispatch.request import Tried
from listener.runs.jobs import MAX_UNCOUNTED, MAX_UNSERVED, counted
from manifests.errors import GpuDropError, JobLost, QueuedTooLong, StoreDenied, SubmitUnknown, WorkerError

LATE = 1000.0


def tried(error: type[GpuDropError], *, at: float = 1.0, counts: bool = False) -> Tried:
    return Tried(0.0, at, error=error("no").info, counts=counts)


def test_what_no_worker_began_is_free_until_the_task_stops_waiting() -> None:
    hours = (tried(SubmitUnknown), tried(QueuedTooLong)) * 40
    assert counted(hours, LATE) == 0
    assert counted((*hours, tried(WorkerError, counts=True)), LATE) == 1
    assert counted((*hours, tried(SubmitUnknown, at=LATE)), LATE) == 1


def test_a_task_that_ends_its_process_again_and_again_is_not_begun_for_ever() -> None:
    assert counted((tried(JobLost),) * MAX_UNCOUNTED, LATE) == 0
    assert counted((tried(JobLost),) * (MAX_UNCOUNTED + 3), LATE) == 3


def test_attempts_that_the_store_did_not_serve_are_free_a_few_times() -> None:
    unserved = Tried(0.0, 1.0, error=StoreDenied("no").info, unserved=True)
    assert counted((unserved,) * MAX_UNSERVED, LATE) == 0
    assert counted((unserved,) * (MAX_UNSERVED + 3), LATE) == 3
