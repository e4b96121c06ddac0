"""Money: a job that would cost too much is not begun, one that does is ended, and a day's budget is waited for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.installation import Installation
from support.runpod.cloud import Cloud, runpod
from support.runpod.fixtures import Made, speech

USD_PER_S = 0.01


def costs(install: Installation, by: str) -> dict[str, Any]:
    return json.loads(install.command("costs", "--by", by, "--json").stdout)


def test_a_job_may_cost_so_much_and_no_more(made: Made, there: Cloud) -> None:
    """A megabyte of speech is thought to take 12.5 s; `patient` would work for a quarter of an hour."""
    install = made(runpod("good", price=USD_PER_S), budgets={"per_job": 0.03})
    install.drops.put("large.mp3", bytes(1_000_000))
    refused = install.failed(speech(install, "large", audio="large.mp3"))
    assert (refused["code"], refused["retryable"], refused["attempts"]) == ("budget_exceeded", False, 1)
    assert "$0.12 at good" in refused["message"] and "$0.030" in refused["message"]
    assert "budgets.per_job" in refused["hint"]
    assert refused["cost"]["usd"] == 0
    assert there.ops("good", "run") == 0
    ended = install.failed(speech(install, "endless", "patient"))
    assert (ended["code"], ended["retryable"]) == ("budget_exceeded", False)
    assert "was ended at good" in ended["message"] and "budgets.per_job" in ended["hint"]
    assert 0.027 <= ended["cost"]["usd"] <= 0.06
    (job,) = there.jobs("good")
    assert job.policy["executionTimeout"] == 93_000, "three seconds for three cents, and the worker's own end first"
    assert (job.status, job.taken) == ("FAILED", 1)
    assert ended["cost"]["usd"] == pytest.approx(job.execution_ms / 1000 * USD_PER_S, abs=0.002)


def test_a_day_that_is_used_up_is_waited_for_and_costs_are_told(made: Made, there: Cloud) -> None:
    """200 kB of speech are thought to cost 2.5 cents. An endless job is ended after four seconds, and costs four."""
    calls = trigger("calls", "patient", budget_per_day=0.03, max_attempts=1)
    install = made(
        runpod("good", price=USD_PER_S),
        triggers=[calls, trigger("fails", "break", max_attempts=2)],
        budgets={"per_day": 0.08},
        task_timeout=4.0,
    )
    too_dear, spent = drop(install, "calls", 400), drop(install, "calls", 200)
    assert install.failed(too_dear)["code"] == "budget_exceeded"
    assert "a day may cost $0.030" in install.failed(too_dear)["message"]
    assert install.failed(spent)["code"] == "task_timed_out"
    parked = drop(install, "calls", 201)
    for_calls = waits(install, parked)
    assert "$0.030 a day for trigger calls is used up ($0.04" in for_calls
    assert f"looked at again at {tomorrow()} 00:00 UTC" in for_calls
    install.done(speech(install, "others-go-on"))
    failed = install.failed(drop(install, "fails", 1))
    assert failed["attempts"] == len([j for j in there.jobs("good") if j.input["task"]["params"]["model"] == "break"])
    install.drops.put("large.mp3", bytes(500_000))
    for_all = waits(install, speech(install, "large", "other", audio="large.mp3"))
    assert "$0.080 a day for all runs is used up" in for_all
    assert there.waiting() == [], "what waits for money has not been sent"
    assert failed["cost"]["usd"] > 0

    document = costs(install, "trigger")
    assert {each["name"] for each in document["costs"]} == {"calls", "fails", "manifests"}
    by_trigger = {each["name"]: each for each in document["costs"]}
    assert by_trigger["fails"]["usd"] == pytest.approx(failed["cost"]["usd"], abs=1e-6)
    assert by_trigger["calls"]["usd"] == pytest.approx(install.failed(spent)["cost"]["usd"], abs=1e-6)
    assert by_trigger["fails"]["jobs"] == failed["attempts"] >= 1
    assert document["today"]["triggers"]["calls"]["cap_usd"] == 0.03
    jobs = there.jobs("good")
    for by, names in (("day", [today()]), ("operation", ["transcribe"])):
        document = costs(install, by)
        assert [each["name"] for each in document["costs"]] == names
        assert document["total"]["jobs"] == len(jobs)
        assert document["total"]["usd"] == pytest.approx(there.billed_s() * USD_PER_S, abs=2e-4 * len(jobs))
    assert there.billed_s() > 4.0


def trigger(name: str, model: str, **more: Any) -> dict[str, Any]:
    manifest = {"operation": "transcribe", "model": model, "path": f"{name}-heard/{{stem}}/"}
    return {"name": name, "pattern": [f"{name}/*.mp3"], "manifest": manifest, **more}


def drop(install: Installation, folder: str, kilobytes: int) -> str:
    key = f"{folder}/{kilobytes}.mp3"
    install.drops.put(key, bytes(kilobytes * 1000))
    return key


def waits(install: Installation, key: str) -> str:
    """What `key` waits for."""
    status = install.until(lambda: (s := install.document(key, "status")) and s["waiting_for"] and s)
    assert status["state"] == "queued"
    return status["waiting_for"][0]


def today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


def tomorrow() -> str:
    return f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
