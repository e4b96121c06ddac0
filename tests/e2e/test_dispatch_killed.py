"""The listener is killed at every point of an attempt: the next one finishes the run, and the work is paid for once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from support.deadlines import HANG_S
from support.runpod.faults import hang
from support.runpod.installation import RunPodInstallation, patched

LEDGER = "listener.ledger.jobs:JobLedger"


@dataclass(frozen=True)
class Point:
    """Where the listener dies by itself, and what the work has cost: requests to run it, jobs that came of them."""

    name: str
    stop_at: str
    runs: int = 1


POINTS = [
    Point("before the intent is written", f"before {LEDGER}:reserve"),
    Point("after the intent, before the request", f"after {LEDGER}:reserve"),
    Point("after the answer, before the job's id is recorded", f"before {LEDGER}:sent"),
    Point("after the job's id is recorded", f"after {LEDGER}:sent"),
    Point("after the job's end, before it is recorded", f"before {LEDGER}:ended"),
    Point("after the job's end is recorded, before the attempt is", f"after {LEDGER}:ended"),
    Point("after the result, before the outputs", "before listener.runs.finalizer:RunFinalizer:write"),
    Point("after the outputs, before the sidecar", "after listener.runs.finalizer:RunFinalizer:write"),
    Point("after the sidecar, before the run is closed", "after listener.runs.finalizer:RunFinalizer:done"),
]


@pytest.mark.parametrize("point", POINTS, ids=[p.name for p in POINTS])
def test_killed_inside(rp: RunPodInstallation, tmp_path: Path, point: Point) -> None:
    rp.work()
    plain = dict(rp.install.environ)
    rp.install.environ |= patched(tmp_path, STOP_AT=point.stop_at)
    rp.install.start()
    key = rp.drop("killed")
    assert rp.install.process
    assert rp.install.process.wait(HANG_S) == -9
    rp.install.environ = plain
    finished_once(rp, key)
    assert rp.runs(key) == point.runs


def finished_once(rp: RunPodInstallation, key: str) -> None:
    """The next listener finishes it; one execution did work, and any other said that it did none."""
    rp.install.start()
    document = rp.install.done(key)
    assert rp.install.drops.get("killed/killed.srt") or document["outputs"], document
    rp.quiet(key)
    assert [e.outcome for e in rp.worked(key)] == ["completed"], [job.executions for job in rp.jobs(key)]


@pytest.mark.parametrize("way", ["kill", "stop"])
@pytest.mark.parametrize("workers", ["late", "at once"])
@pytest.mark.parametrize("taken", [False, True], ids=["not taken", "taken"])
def test_ended_while_the_request_is_under_way(
    rp: RunPodInstallation, taken: bool, workers: str, way: Literal["kill", "stop"]
) -> None:
    if workers == "at once":
        rp.work()
    rp.faults(lambda f: f.on("run", hang(taken=taken), endpoint=rp.endpoint.id))
    rp.install.start()
    key = rp.drop("killed")
    rp.install.until(lambda: rp.runs(key) == 1 and (not taken or rp.jobs(key)))
    if taken and workers == "at once":
        rp.running(key)
    getattr(rp.install, way)()
    if workers == "late":
        rp.install.start()
        rp.install.until(lambda: rp.runs(key) == 2)
        rp.work()
        rp.install.done(key)
        rp.quiet(key)
        assert [e.outcome for e in rp.worked(key)] == ["completed"]
        return
    finished_once(rp, key)
    assert rp.runs(key) == (1 if taken else 2)


@pytest.mark.parametrize("way", ["kill", "stop"])
def test_ended_while_the_job_waits_in_the_queue(rp: RunPodInstallation, way: Literal["kill", "stop"]) -> None:
    rp.install.start()
    key = rp.drop("killed")
    rp.queued(key)
    getattr(rp.install, way)()
    rp.work()
    finished_once(rp, key)
    assert rp.runs(key) == 1


@pytest.mark.parametrize("away", ["back before the end", "back after the end"])
def test_killed_while_the_job_runs(rp: RunPodInstallation, away: str) -> None:
    rp.work()
    rp.install.start()
    key = rp.drop("killed", "wait-3")
    job = rp.running(key)
    rp.install.kill()
    if away == "back after the end":
        rp.install.until(lambda: rp.of(lambda _: job.final))
    finished_once(rp, key)
    assert rp.runs(key) == 1
