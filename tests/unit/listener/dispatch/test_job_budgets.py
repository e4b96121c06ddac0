"""What a job may cost, decided without asking anybody."""

from __future__ import annotations

import pytest

from gpu_dispatch.endpoints import EndpointSpec
from gpu_dispatch.task import GpuResult
from listener.dispatch.budgets import Budgets, cost_usd, dollars, never_enough
from listener.ledger.quotas import QuotaRefusal
from manifests.errors import ErrorInfo, TaskTimedOut
from support.jobs import job

DEAR = EndpointSpec("dear", frozenset({"whisper"}), usd_per_s=0.01)
FREE = EndpointSpec("here", frozenset({"whisper"}))
LATE = TaskTimedOut("It took too long.").info


@pytest.mark.parametrize(
    ("usd", "text"),
    [(0, "$0.00"), (0.00003, "$0.000030"), (0.005, "$0.0050"), (0.5, "$0.50"), (5, "$5.00"), (1234.5, "$1,234.50")],
)
def test_money_is_told_with_digits_that_say_something(usd: float, text: str) -> None:
    assert dollars(usd) == text


def test_a_job_works_no_longer_than_its_budget_lasts() -> None:
    budgets = Budgets(per_job=0.5)
    assert budgets.seconds(DEAR, 3600.0) == 50.0
    assert budgets.seconds(DEAR, 20.0) == 20.0
    assert budgets.seconds(FREE, 3600.0) == 3600.0
    assert Budgets().seconds(DEAR, 3600.0) == 3600.0


def test_a_job_dearer_than_its_budget_is_told_with_both_sums() -> None:
    budgets = Budgets(per_job=0.5)
    assert budgets.too_expensive(0.5, DEAR) is None
    error = budgets.too_expensive(0.6, DEAR)
    assert error and error.info.code == "budget_exceeded" and not error.retryable
    assert "$0.60" in str(error) and "$0.50" in str(error) and "dear" in str(error)


def told(error: ErrorInfo, execution_ms: int, budgets: Budgets) -> str:
    return budgets.explained(
        error, job("j", usd_per_s=0.01), GpuResult("t", error=error, execution_ms=execution_ms)
    ).code


def test_a_job_that_ran_out_of_money_says_so_and_one_that_was_merely_slow_does_not() -> None:
    budgets = Budgets(per_job=0.5)
    assert told(LATE, 49_000, budgets) == "budget_exceeded"
    assert told(LATE, 10_000, budgets) == "task_timed_out"
    assert told(LATE, 49_000, Budgets()) == "task_timed_out"
    assert told(ErrorInfo("worker_crashed", "It fell."), 49_000, budgets) == "worker_crashed"


def test_waiting_for_tomorrow_is_no_use_for_a_job_dearer_than_a_day() -> None:
    refusal = QuotaRefusal("day_budget", until=0.0, spent=0.9, limit=1.0)
    assert never_enough(job("j", estimate_usd=1.0), refusal) is None
    error = never_enough(job("j", estimate_usd=1.1), refusal)
    assert error and "$1.10" in str(error)


def test_time_that_nobody_told_costs_nothing() -> None:
    assert cost_usd(-5, 0.01) == 0.0
    assert cost_usd(1500, 0.01) == pytest.approx(0.015)
