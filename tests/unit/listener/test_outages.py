"""Runs wait for the store: what is waited for, for how long, who is told, and how often."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from listener.outages import REFUSED_FOR_S, OutageRetry, report_waits
from manifests.errors import GpuDropError, InputMissing, StoreDenied, StoreUnavailable
from support.runs import Unhurried

Work = Callable[[], Awaitable[str]]


class Hours:
    """A clock on which every look is an hour later."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        self.at += 3600.0
        return self.at


def failing(*errors: GpuDropError) -> Work:
    left = list(errors)

    async def work() -> str:
        if left:
            raise left.pop(0)
        return "served"

    return work


async def test_what_passes_is_waited_for_and_told() -> None:
    told: list[str] = []
    work = failing(StoreUnavailable("It is away.", hint="Start it."), StoreDenied("It says no."))
    with report_waits(told.append):
        assert await OutageRetry(Unhurried()).retry(work) == "served"
    assert told == ["It is away. Start it.", "It says no.", ""]


async def test_what_is_the_runs_own_is_raised_at_once() -> None:
    with pytest.raises(InputMissing):
        await OutageRetry(Unhurried()).retry(failing(InputMissing("no")))


async def test_a_store_that_is_away_is_waited_for_without_end_and_a_refusal_for_a_week() -> None:
    hours = int(REFUSED_FOR_S / 3600) + 50
    away = failing(*[StoreUnavailable("away")] * hours)
    assert await OutageRetry(Unhurried(), now=Hours()).retry(away) == "served"
    with pytest.raises(StoreDenied):
        await OutageRetry(Unhurried(), now=Hours()).retry(failing(*[StoreDenied("no")] * hours))


async def test_a_step_waits_as_long_as_it_may() -> None:
    with pytest.raises(StoreUnavailable):
        await OutageRetry(Unhurried(), now=Hours()).within(36000.0, failing(*[StoreUnavailable("away")] * 50))


async def test_many_that_wait_are_one_line_of_the_log_and_wake_one_another() -> None:
    outages, there = OutageRetry(random.Random(1)), asyncio.Event()

    async def work() -> str:
        if not there.is_set():
            raise StoreUnavailable("away", hint="Start it.")
        return "served"

    with capture_logs() as logs:
        waiting = [asyncio.create_task(outages.retry(work)) for _ in range(50)]
        while outages.waiting < 50:
            await asyncio.sleep(0.01)
        there.set()
        assert await asyncio.gather(*waiting) == ["served"] * 50
    assert outages.waiting == 0
    warned = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [(entry["event"], entry["code"]) for entry in warned] == [("runs_wait", "store_unavailable")]
    assert any(entry["event"] == "runs_go_on" for entry in logs)
