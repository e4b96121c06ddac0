"""Budgets as arithmetic, and `gpudrop costs` as a user sees it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from listener.cli.main import app
from listener.config.loader import load_config
from listener.config.state import state_of
from listener.ledger.database import Database
from listener.ledger.job_rows import DAY_S
from listener.ledger.jobs import JobLedger
from listener.ledger.quotas import FULL_RETRY_S, QuotaLimits, Spending, next_day, quota_refusal
from support.jobs import ANYTHING, job

usd = st.floats(0, 1000)
caps = st.none() | usd
moments = st.floats(0, 4e9)


@given(usd, caps, caps, st.builds(Spending, usd, usd), st.builds(Spending, usd, usd), moments)
def test_a_job_is_sent_exactly_when_no_budget_would_be_passed(
    estimate: float, per_trigger: float | None, per_day: float | None, trigger: Spending, day: Spending, now: float
) -> None:
    limits = QuotaLimits(None, per_trigger, per_day)
    refused = quota_refusal(estimate, limits, open_jobs=10**6, trigger=trigger, day=day, now=now)
    passes = [
        spent.usd + estimate > cap + 1e-9
        for spent, cap in ((trigger, per_trigger), (day, per_day))
        if cap is not None and estimate > 0
    ]
    assert (refused is not None) == any(passes)
    if refused:
        assert now < refused.until <= next_day(now)
        assert refused.spent + estimate > refused.limit


@given(st.integers(0, 5), st.none() | st.integers(0, 5), usd)
def test_a_place_is_given_while_there_is_one_whatever_it_costs(jobs: int, places: int | None, estimate: float) -> None:
    limits = QuotaLimits(places, None, None)
    refused = quota_refusal(estimate, limits, open_jobs=jobs, trigger=Spending(), day=Spending(), now=5.0)
    assert (refused is None) == (places is None or jobs < places)
    assert refused is None or (refused.reason, refused.until) == ("concurrency", 5.0 + FULL_RETRY_S)


def test_money_that_is_only_reserved_is_asked_for_again_before_the_day_is_over() -> None:
    noon = DAY_S / 2

    def until(spent: Spending, now: float = noon) -> float:
        refused = quota_refusal(1.0, QuotaLimits(None, None, 2.0), open_jobs=0, trigger=spent, day=spent, now=now)
        assert refused
        return refused.until

    assert until(Spending(paid=0.5, reserved=1.0)) == noon + 60.0
    assert until(Spending(paid=1.5, reserved=0.0)) == DAY_S
    assert until(Spending(paid=0.5, reserved=1.0), DAY_S - 10.0) == DAY_S


@given(st.lists(st.floats(0.01, 5.0), max_size=40))
def test_prices_added_in_any_order_fill_a_budget_to_its_end(prices: list[float]) -> None:
    total = sum(prices)
    spent = 0.0
    for price in reversed(prices):
        day = Spending(reserved=spent)
        assert quota_refusal(price, QuotaLimits(None, None, total), open_jobs=0, trigger=day, day=day, now=0.0) is None
        spent += price


@given(moments)
def test_the_next_day_begins_within_a_day_at_midnight(now: float) -> None:
    assert now < next_day(now) <= now + DAY_S
    assert next_day(now) % DAY_S == 0.0


CONFIG = """
store: {kind: folder, root: ROOT}
budgets: {per_day: 5.0}
triggers:
  - {name: songs, suffix: .mp3, manifest: {operation: transcribe}, budget_per_day: 2.5}
  - {name: talks, suffix: .wav, manifest: {operation: transcribe}}
"""


@pytest.fixture
def costs(tmp_path: Path) -> Callable[..., Result]:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("ROOT", str(tmp_path / "drop")))
    environment = {"COLUMNS": "120", "TERM": "dumb"}
    return lambda *args: CliRunner().invoke(app, ["costs", "-c", str(config), *args], env=environment)


@pytest.fixture
def some_jobs(tmp_path: Path, costs: Callable[..., Result]) -> None:
    async def record() -> None:
        database = Database(state_of(load_config(tmp_path / "config.yaml")).ledger_url)
        await database.open()
        now = [time.time() - DAY_S]
        jobs = JobLedger(database, lambda: now[0])
        await jobs.reserve(job("old", trigger="gone"), ANYTHING)
        await jobs.ended("old", outcome="done", execution_ms=60_000, usd=0.06)
        now[0] += DAY_S
        await jobs.reserve(job("new"), ANYTHING)
        await jobs.ended("new", outcome="done", execution_ms=1_500_000, usd=1.5)
        await jobs.reserve(job("open", estimate_usd=0.75), ANYTHING)
        await database.close()

    asyncio.run(record())


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def test_nothing_spent_is_said_plainly(costs: Callable[..., Result]) -> None:
    result = costs("--days", "7")
    assert result.exit_code == 0
    assert "No job has ended in the last 7 days." in result.stdout


@pytest.mark.usefixtures("some_jobs")
def test_costs_are_shown_with_their_total_and_todays_budgets(costs: Callable[..., Result]) -> None:
    result = costs("--by", "trigger")
    assert result.exit_code == 0
    lines = words(result.stdout)
    assert ["songs", "1", "1,500.0", "$1.5000"] in lines
    assert ["gone", "1", "60.0", "$0.0600"] in lines
    assert ["total", "2", "1,560.0", "$1.5600"] in lines
    assert ["all", "runs", "$1.5000", "$0.7500", "$5.0000"] in lines
    assert ["songs", "$1.5000", "$0.7500", "$2.5000"] in lines
    assert not any(line[0] == "talks" for line in lines), "it has no budget and has spent nothing"


@pytest.mark.usefixtures("some_jobs")
def test_costs_of_runs_name_their_files_the_dearest_first(costs: Callable[..., Result]) -> None:
    lines = words(costs("--by", "run").stdout)
    assert lines[1:3] == [
        ["run-new", "new.mp3", "1", "1,500.0", "$1.5000"],
        ["run-old", "old.mp3", "1", "60.0", "$0.0600"],
    ]


@pytest.mark.usefixtures("some_jobs")
def test_costs_are_told_to_programs_too(costs: Callable[..., Result]) -> None:
    told = json.loads(costs("--by", "endpoint", "--json", "--days", "1").stdout)
    assert told["costs"] == [{"name": "fast", "jobs": 1, "seconds": 1500.0, "usd": 1.5}]
    assert told["total"]["usd"] == 1.5
    assert told["open_jobs"] == 1
    assert told["today"]["all"] == {"spent_usd": 1.5, "reserved_usd": 0.75, "cap_usd": 5.0}
    assert told["today"]["triggers"] == {"songs": {"spent_usd": 1.5, "reserved_usd": 0.75, "cap_usd": 2.5}}


def test_a_sum_nobody_offers_is_refused(costs: Callable[..., Result]) -> None:
    result = costs("--by", "weather")
    assert result.exit_code == 2
    assert "trigger" in result.output
