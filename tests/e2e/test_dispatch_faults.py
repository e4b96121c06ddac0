"""What can go wrong between the listener and RunPod, as a table: how each run ends, and what it cost.

Every row runs on the real listener, the real store and real worker processes. "done" means that the user's sidecar
says so; another word is the error's code. `paid` counts the executions that did work: a worker that found the claim
taken, or withdrawn, did none. `runs` is the most requests to run the job that may have been made.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from minio import Minio

from gpu_dispatch.task import GpuResult
from gpu_dispatch.wire import result_to_wire
from support.odd_worker import transcript
from support.runpod.cloud import Cloud
from support.runpod.faults import Fault, empty, failing, hang, html, reset, reset_mid_body, slow, too_many
from support.runpod.installation import (
    RunPodInstallation,
    bucket_of_its_own,
    patched,
    runpod_installation,
)
from support.runpod.jobs import Job
from support.runpod.queue import Provider

Act = Callable[[RunPodInstallation, Job], object]


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, there: Cloud, minio_server: Any, minio_client: Minio
) -> Iterator[RunPodInstallation]:
    """One listener with two workers that come back when they die, for rows that leave nothing behind."""
    folder = tmp_path_factory.mktemp("faults")
    with (
        bucket_of_its_own(minio_client) as bucket,
        runpod_installation(folder, minio_server, minio_client, bucket, there=there) as rp,
    ):
        rp.work(count=2, restart=True)
        rp.install.start()
        yield rp


@dataclass(frozen=True)
class Answered:
    """A fault of the API: the next `times` calls of `op` meet it."""

    name: str
    op: str
    fault: Fault
    times: int = 1
    ends: str = "done"
    paid: int = 1
    runs: int = 1
    model: str = "quick"


ANSWERED = [
    # Not taken, for certain: sent again until it is taken.
    Answered("429 storm on run", "run", too_many(), times=2, runs=3),
    Answered("401 on run, the key is given back", "run", Fault(401), runs=2),
    # It refuses the task itself: nothing is tried again, nothing is paid.
    Answered("400 on run", "run", failing(400), ends="task_refused", paid=0),
    # Nobody can say: the claim tells.
    Answered("500 on run, not taken", "run", failing(500), runs=2),
    Answered("500 on run, taken", "run", failing(500, taken=True), runs=2),
    Answered("502 page on run, not taken", "run", html(502), runs=2),
    Answered("502 page on run, taken", "run", html(502, taken=True), runs=2),
    Answered("a page that looks well, taken", "run", html(200, taken=True), runs=2),
    Answered("empty answer to run, not taken", "run", empty(), runs=2),
    Answered("empty answer to run, taken", "run", empty(taken=True), runs=2),
    Answered("reset before run is taken", "run", reset(), runs=2),
    Answered("reset after run is taken", "run", reset(taken=True), runs=2),
    Answered("reset in the middle of run's answer", "run", reset_mid_body(), runs=2),
    Answered("three answers to run are lost in a row", "run", reset(taken=True), times=3, runs=4),
    Answered("slow run", "run", slow(2.0)),
    # Asking again does no harm.
    Answered("429 storm on status", "status", too_many(), times=3),
    Answered("500 on status", "status", failing(500), times=3),
    Answered("502 page on status", "status", html(502), times=2),
    Answered("a page that looks well on status", "status", html(200), times=2),
    Answered("empty answer to status", "status", empty(), times=2),
    Answered("reset on status", "status", reset(), times=2),
    Answered("reset in the middle of status", "status", reset_mid_body(), times=2),
    Answered("slow status", "status", slow(2.0)),
    Answered("the key is revoked while the job runs, and given back", "status", Fault(401), times=3, model="wait-1"),
]


@pytest.mark.parametrize("row", ANSWERED, ids=[row.name for row in ANSWERED])
def test_the_api_fails(shared: RunPodInstallation, row: Answered) -> None:
    rp = shared
    rp.faults(lambda f: (f.clear(), f.met.clear()))
    rp.faults(lambda f: f.on(row.op, row.fault, row.times, endpoint=rp.endpoint.id))
    key = rp.drop(f"answered-{ANSWERED.index(row)}", row.model)
    ends_as(rp, key, row.ends, row.paid, row.runs)
    met = rp.faults(lambda f: f.met)
    # A job that was taken may begin before the next one is sent: then there is none.
    assert met == [row.op] * (len(met) if row.fault.taken and met else row.times)
    assert len(met) <= row.times


def ends_as(rp: RunPodInstallation, key: str, ends: str, paid: int, runs: int) -> None:
    document = rp.install.ended(key)
    assert (document["code"] if document["code"] != 200 else "done") == ends, document
    rp.quiet(key)
    assert rp.paid(key) == paid, [job.executions for job in rp.jobs(key)]
    assert rp.runs(key) <= runs


@dataclass(frozen=True)
class Happened:
    """What happens to one job at the provider, once a worker has it (`queued`: before one has)."""

    name: str
    act: Act
    ends: str = "done"
    paid: int = 1
    runs: int = 1
    model: str = "wait-10"
    at_most: bool = False
    """`paid` is a bound: whether what was cut off counts as an execution depends on the moment."""


def lost(rp: RunPodInstallation, job: Job) -> None:
    rp.of(lambda _: rp.endpoint.lose(job))


def expired(rp: RunPodInstallation, job: Job) -> None:
    rp.of(lambda _: rp.endpoint.stick(job))
    rp.install.until(lambda: rp.of(lambda _: job.finished))
    rp.of(lambda _: rp.endpoint.expire(job))


def stuck(rp: RunPodInstallation, job: Job) -> None:
    rp.of(lambda _: rp.endpoint.stick(job))


def regressed(rp: RunPodInstallation, job: Job) -> None:
    rp.install.until(lambda: rp.of(lambda _: job.final))
    rp.of(lambda _: rp.endpoint.regress(job))


def requeued(rp: RunPodInstallation, job: Job) -> None:
    rp.of(lambda _: rp.endpoint.requeue(job))
    rp.install.until(lambda: rp.of(lambda _: job.taken == 2))


def sent_twice(rp: RunPodInstallation, job: Job) -> None:
    """As if a request had been carried out twice: another job with the same task, and so the same claim."""
    rp.of(lambda _: rp.endpoint.submit({"input": job.input, "policy": job.policy}))


def cancelled_elsewhere(rp: RunPodInstallation, job: Job) -> None:
    rp.of(lambda _: rp.endpoint.cancel(job))


def nothing(rp: RunPodInstallation, job: Job) -> None:
    del rp, job


def flapping(rp: RunPodInstallation, job: Job) -> None:
    rp.of(lambda _: rp.endpoint.flap(job))


def flapping_twice(rp: RunPodInstallation, job: Job) -> None:
    """A failure at first, with some looks between the two."""
    rp.of(lambda _: (rp.endpoint.flap(job, "FAILED"), job.lies.extend([{}] * 3), rp.endpoint.flap(job)))


def somebody_elses(rp: RunPodInstallation) -> Job:
    """A job that is done, of another task."""
    done = GpuResult("somebody-elses", transcript("Not what was said."))

    def made(_: Provider) -> Job:
        job = rp.there.provider.endpoint(f"other-{uuid4().hex}").submit({"input": {}})
        job.status, job.output = "COMPLETED", {"result": result_to_wire(done)}
        return job

    return rp.of(made)


def confused(rp: RunPodInstallation, job: Job) -> None:
    other = somebody_elses(rp)
    rp.of(lambda _: rp.endpoint.confuse(job, other, looks=2))


def mixed_up(rp: RunPodInstallation, job: Job) -> None:
    other = somebody_elses(rp)
    rp.of(lambda _: rp.endpoint.mix_up(job, other))


HAPPENED = [
    Happened("completed without output, then running again", flapping),
    Happened("failed, running, completed without output, running again", flapping_twice),
    Happened("answers that speak of another job", confused),
    Happened("another task's result under its own id", mixed_up),
    Happened("cancelled by somebody else in the console", cancelled_elsewhere, paid=2, runs=2, at_most=True),
    Happened("given to two workers: the later one takes it over", requeued, model="wait-20"),
    Happened("two jobs with one claim", sent_twice, model="wait-20"),
    Happened("lost while it runs: the worker's answer is in the store", lost),
    Happened("its worker's answer is thrown away: running for ever", stuck),
    Happened("expired before its result was fetched", expired),
    Happened("a late progress post: running for ever", regressed),
    Happened("a defect of the worker", nothing, ends="worker_error", model="break"),
]


def test_the_provider_does_odd_things_to_a_job(rp: RunPodInstallation) -> None:
    """All rows at once: most of them wait for what the provider does not tell."""
    rp.of(lambda _: setattr(rp.endpoint, "workers_max", 20))
    rp.work(count=len(HAPPENED))
    rp.install.start()
    keys = {row.name: rp.drop(f"happened-{i}", row.model) for i, row in enumerate(HAPPENED)}
    for row in HAPPENED:
        row.act(rp, rp.running(keys[row.name]))
    came = {row.name: came_to(rp, keys[row.name], row) for row in HAPPENED}
    executions = {row.name: [job.executions for job in rp.jobs(keys[row.name])] for row in HAPPENED}
    assert came == {row.name: (row.ends, row.paid, True) for row in HAPPENED}, executions


def came_to(rp: RunPodInstallation, key: str, row: Happened) -> tuple[str, int, bool]:
    document = rp.install.ended(key)
    rp.quiet(key)
    ends = "done" if document["code"] == 200 else document["code"]
    if "Not what was said" in json.dumps(document):
        ends = "another's words"
    paid = rp.paid(key)
    return ends, row.paid if row.at_most and 1 <= paid <= row.paid else paid, rp.runs(key) <= row.runs


def test_a_job_that_is_lost_in_the_queue_is_sent_again(rp: RunPodInstallation) -> None:
    rp.install.start()
    key = rp.drop("lost")
    lost(rp, rp.queued(key))
    rp.work()
    ends_as(rp, key, "done", paid=1, runs=2)


@pytest.mark.parametrize(("after", "runs"), [("requeue", 1), ("fail", 2)])
def test_a_worker_dies_in_the_middle_of_a_job(rp: RunPodInstallation, after: str, runs: int) -> None:
    """What it did until then is paid for, and nothing else twice."""
    rp.of(lambda _: setattr(rp.endpoint, "after_crash", after))
    worker = rp.work(restart=True)
    rp.install.start()
    key = rp.drop("dies", "wait-5")
    rp.running(key)
    rp.of(lambda _: worker.kill())
    ends_as(rp, key, "done", paid=2, runs=runs)
    assert sorted(e.outcome for e in rp.worked(key)) == ["completed", "crashed"]


def test_a_worker_dies_between_its_answer_and_its_report(rp: RunPodInstallation, tmp_path: Path) -> None:
    """The provider gives the job to another worker, which finds that it is done: nothing is done or written twice."""
    works = tmp_path / "works"
    worker = rp.work(restart=True, ODD_WORKS=str(works))
    rp.faults(lambda f: (f.met.clear(), f.on("job-done", hang(), endpoint=rp.endpoint.id)))
    drops = rp.install.drops
    drops.put("i.jpg", b"picture")
    drops.put("film.job.json", json.dumps({"images": [{"image": "i.jpg", "duration": 1.0}], "path": "film/"}).encode())
    rp.install.start()
    rp.install.until(lambda: rp.faults(lambda f: f.met) == ["job-done"])
    written = outputs(rp)
    rp.of(lambda _: worker.kill())
    document = rp.install.done("film.job.json")
    (job,) = rp.there.jobs(rp.endpoint.id)
    assert document["videos"] and [e.outcome for e in job.executions] == ["crashed", "completed"]
    assert works.read_text().splitlines() == ["img2vid"]
    assert written and outputs(rp) == written


def outputs(rp: RunPodInstallation) -> dict[str, Any]:
    """What lies in the run's output folder, and when it was written."""
    drops = rp.install.drops
    return {o.object_name: o.last_modified for o in drops.client.list_objects(drops.bucket, "film/", recursive=True)}


def test_a_job_that_kills_every_worker_is_given_up(rp: RunPodInstallation) -> None:
    rp.of(lambda _: setattr(rp.endpoint, "after_crash", "fail"))
    rp.work(restart=True)
    rp.install.start(manifests={"max_attempts": 2})
    ends_as(rp, rp.drop("poison", "die"), "worker_crashed", paid=2, runs=2)


@pytest.mark.parametrize("fault", ["drop_output", "late_progress", "twice"])
def test_the_provider_does_it_to_every_job(rp: RunPodInstallation, fault: str) -> None:
    """Of two executions of one job the later one takes over: both may be needed, as the earlier one may be dead. A job
    that is over in an instant may so be done by both."""
    rp.of(lambda _: setattr(rp.endpoint, fault, True))
    rp.work(count=2)
    rp.install.start()
    ends_as(rp, rp.drop("every", "wait-10"), "done", paid=1, runs=1)


def test_a_cancelled_job_that_goes_on_finds_its_claim_withdrawn(rp: RunPodInstallation) -> None:
    """The provider says CANCELLED and its worker was never told."""
    rp.of(lambda _: setattr(rp.endpoint, "stops_lost", True))
    rp.work(GPUDROP_CLAIM_LOOK_S="0.3")
    rp.install.start()
    key = rp.drop("cancelled", "wait-600")
    job = rp.running(key)
    assert rp.install.command("cancel", key).returncode == 0
    assert rp.install.failed(key)["code"] == "cancelled"
    rp.install.until(lambda: rp.of(lambda _: job.executions[0].error))
    assert job.executions[0].error.startswith("cancelled")
    assert (job.taken, rp.runs(key)) == (1, 1)


@pytest.mark.parametrize("seconds", [3600.0, -3600.0, 86400.0])
def test_the_clock_jumps_while_a_job_runs(rp: RunPodInstallation, tmp_path: Path, seconds: float) -> None:
    """Only this program's own clock: a store would refuse signatures of another hour."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    rp.install.environ |= patched(tmp_path, CLOCK=str(clock))
    rp.work()
    rp.install.start()
    key = rp.drop("jumps", "wait-3")
    rp.running(key)
    clock.write_text(str(seconds))
    ends_as(rp, key, "done", paid=1, runs=1)
    ends_as(rp, rp.drop("after-that"), "done", paid=1, runs=1)


@pytest.mark.parametrize("copies", [0, 1, 3])
def test_the_webhook_is_lost_or_repeated(rp: RunPodInstallation, copies: int) -> None:
    port = free_port()
    rp.of(lambda _: setattr(rp.endpoint, "webhook_copies", copies))
    rp.work()
    hints = {"port": port, "url": f"http://127.0.0.1:{port}"}
    rp.install.start(runpod={**rp.install.config["runpod"], "hints": hints})
    key = rp.drop("hinted", "wait-1")
    ends_as(rp, key, "done", paid=1, runs=1)
    rp.install.until(lambda: rp.jobs(key)[0].webhooks == [200] * copies)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
