"""Where a drop is done when endpoints are busy, stopped, without workers, or refuse everything: once, and somewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpu_dispatch.task import GpuResult
from gpu_dispatch.transcript import Segment, Transcript
from gpu_dispatch.wire import result_to_wire
from support.installation import Installation
from support.runpod.cloud import Cloud, runpod
from support.runpod.faults import Fault
from support.runpod.fixtures import Made, speech
from support.runpod.jobs import Auto, Job

MANY = 80


def film(install: Installation, name: str) -> str:
    key = f"{name}.job.json"
    asked = {"images": [{"image": "a.jpg", "duration": 1}], "width": 320, "height": 180, "path": f"{name}/"}
    install.drops.put(key, json.dumps(asked).encode())
    return key


def heard(job: Job) -> Any:
    """What a worker answers that has heard nothing in particular."""
    said = Transcript("en", 1.0, 1.0, (Segment(0, 0.0, 1.0, "yes"),), model="quick", engine="odd", device="cpu")
    return {"result": result_to_wire(GpuResult(job.input["task"]["task_id"], said))}


def test_the_lowest_order_is_asked_first_and_shares_by_weight(made: Made, there: Cloud) -> None:
    for name in ("heavy", "light", "later"):
        there.endpoint(name, auto=Auto(0.05, heard), workers_max=100)
    install = made(
        runpod("later", order=1), runpod("light", weight=1.0), runpod("heavy", weight=4.0), concurrent_runs=50
    )
    for key in [speech(install, f"many/{i}") for i in range(MANY)]:
        install.done(key)
    heavy, light = len(there.jobs("heavy")), len(there.jobs("light"))
    assert heavy + light == MANY
    assert heavy > light > 0
    assert there.jobs("later") == []


def test_an_endpoint_without_workers_is_left_and_a_throttled_one_is_the_last_resort(made: Made, there: Cloud) -> None:
    closed = there.endpoint("closed", workers_max=0)
    there.of(lambda _: closed.submit({"input": {"of": "somebody else"}}))
    throttled = there.endpoint("throttled")
    there.of(lambda _: throttled.health_workers.update(idle=0, ready=0, running=0, throttled=3))
    install = made(
        runpod("closed", "whisper"),
        runpod("throttled", "whisper", "nvenc", order=1),
        runpod("good", "whisper", order=2),
    )
    early = speech(install, "early")
    install.until(lambda: len(install.logged("endpoint_unwell")) == 2)
    assert {entry["endpoint"]: entry["state"] for entry in install.logged("endpoint_unwell")} == {
        "closed": "dead",
        "throttled": "slow",
    }
    install.done(early)
    asked = there.ops("closed", "run")
    install.done(speech(install, "late"))
    assert there.ops("closed", "run") == asked, "it was known to have no workers"
    assert [job.status for job in there.jobs("closed")[1:]] == ["CANCELLED"] * asked
    assert there.of(lambda _: closed.paid) == 0
    assert there.jobs("throttled") == []
    assert [job.taken for job in there.jobs("good")] == [1, 1]
    shown = " ".join(install.command("endpoints").stdout.split())
    assert "3 throttled" in shown
    there.work(throttled, "odd")
    there.of(lambda _: throttled.health_workers.update(throttled=3, ready=0, idle=0))
    install.done(film(install, "only-there"))
    assert [job.finished for job in there.jobs("throttled")] == [1]


def test_what_waits_too_long_is_done_elsewhere_and_paid_once(made: Made, there: Cloud) -> None:
    there.endpoint("full")
    there.endpoint("slow")
    install = made(
        runpod("full", "whisper", max_queue=1.0),
        runpod("slow", "nvenc", hedge_after=1.0),
        runpod("good", order=1),
    )
    taken_back = install.done(speech(install, "taken-back"))
    assert [(job.status, job.taken) for job in there.jobs("full")] == [("CANCELLED", 0)]
    assert [(job.status, job.taken) for job in there.jobs("good")] == [("COMPLETED", 1)]
    hedged = install.done(film(install, "hedged"))
    first, second = there.jobs("slow")[0], there.jobs("good")[1]
    assert (first.input["task"]["task_id"], first.input["task"]["claim"]["put_url"].partition("?")[0]) == (
        second.input["task"]["task_id"],
        second.input["task"]["claim"]["put_url"].partition("?")[0],
    ), "both carry one claim"
    install.until(lambda: there.jobs("slow")[0].status == "CANCELLED")
    assert (first.taken, second.finished) == (0, 1)
    assert len(there.jobs("slow")) == 1
    assert len(there.jobs("good")) == 2
    assert taken_back["cost"]["usd"] + hedged["cost"]["usd"] == pytest.approx(there.billed_s() * 0.0002, abs=3e-6)


def test_concurrency_is_kept_and_none_stops_an_endpoint(made: Made, there: Cloud) -> None:
    there.endpoint("stopped")
    install = made(runpod("good", "whisper", concurrency=1), runpod("stopped", "nvenc", concurrency=0))
    parked = film(install, "parked")
    keys = [speech(install, f"one-by-one/{i}") for i in range(5)]
    status = install.until(lambda: (s := install.document(parked, "status")) and s["waiting_for"] and s)
    assert status["state"] == "queued"
    assert "stopped: it is stopped (concurrency: 0)" in status["waiting_for"][0]
    for key in keys:
        install.done(key)
    one_by_one(there.jobs("good"), 5)
    assert "stopped (concurrency: 0)" in install.command("endpoints").stdout
    assert there.ops("stopped", "run") == 0
    install.command("cancel", parked)
    assert install.failed(parked)["code"] == "cancelled"


def one_by_one(jobs: list[Job], count: int) -> None:
    """No job was sent before the one before it had ended."""
    assert len(jobs) == count
    assert [job.taken for job in jobs] == [1] * count
    ends = [job.ended or 0.0 for job in jobs]
    assert all(after.submitted >= end for end, after in zip(ends, jobs[1:], strict=False))


def test_this_machine_is_the_last_fallback(made: Made, there: Cloud) -> None:
    there.of(lambda p: p.faults.on("run", Fault(401), None))
    install = made(runpod("good"), {"kind": "local", "order": 9})
    done = install.done(film(install, "at-home"))
    assert done["cost"]["usd"] == 0.0
    assert there.jobs("good") == []
    assert there.ops("good", "run") >= 1
    refused = install.logged("endpoint_refused")[0]
    assert (refused["endpoint"], refused["code"]) == ("good", "endpoint_denied")
    assert "GPUDROP_RUNPOD_API_KEY" in refused["hint"]


def test_several_listeners_keep_the_concurrency_together(made: Made, there: Cloud, postgres_url: str) -> None:
    ends = runpod("good", concurrency=1)
    first, second = made(ends, state=postgres_url), made(ends, state=postgres_url)
    for key in [speech(first, f"shared/{i}") for i in range(6)]:
        first.done(key)
    one_by_one(there.jobs("good"), 6)
    first.until(lambda: len(first.logged("run_done")) + len(second.logged("run_done")) == 6)


def test_nothing_goes_to_workers_elsewhere_whose_links_would_open_the_whole_store(made: Made, there: Cloud) -> None:
    """Until the operator says that these workers are trusted."""
    install = made(runpod("good", "whisper"))
    install.stop()
    store = install.config["store"]
    before = len(there.jobs("good"))
    install.start(store={**store, "sts": {"mode": "off"}})
    key = speech(install, "held")
    install.until(lambda: install.logged("links_unsafe"))
    (told,) = install.logged("links_unsafe")
    assert told["code"] == "links_unsafe" and "s3:x-amz-copy-source" in told["hint"]
    (reason,) = install.until(lambda: (install.document(key, "status") or {}).get("waiting_for"))
    assert reason.startswith("good: links are signed with the listener's own keys")
    assert len(there.jobs("good")) == before
    install.stop()
    install.start(store={**store, "sts": {"mode": "off"}, "trust_workers": True})
    install.done(key)
