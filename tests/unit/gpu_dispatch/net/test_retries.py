"""Calls that are tried again: how often, for how long, how far apart, and what is heard of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.net import retries as module
from gpu_dispatch.net.retries import Failure, Retries, RetryPolicy, is_known
from manifests.errors import ConfigError, InputMissing, StoreUnavailable
from support.deadlines import HANG_S

QUICK = RetryPolicy(0.001, 0.004)


def failing(*errors: Exception) -> Callable[[], Awaitable[str]]:
    left = list(errors)

    async def work() -> str:
        if left:
            raise left.pop(0)
        return "served"

    return work


def away(count: int) -> list[Exception]:
    return [StoreUnavailable(f"away {number}") for number in range(count)]


async def test_what_passes_is_tried_again_and_every_failure_told_once() -> None:
    told: list[Failure] = []
    assert await Retries(QUICK).call(failing(*away(3)), on=is_known, on_failure=told.append) == "served"
    assert [str(failure.error) for failure in told] == ["away 0", "away 1", "away 2"]
    assert all(failure.wait_s <= bound for failure, bound in zip(told, (0.001, 0.002, 0.004), strict=True))


async def test_other_errors_are_raised_as_they_are_and_nothing_is_told() -> None:
    missing, told = InputMissing("no"), list[Failure]()
    for errors in ([missing], [StoreUnavailable("away"), missing]):
        with pytest.raises(InputMissing) as e:
            await Retries(QUICK).call(
                failing(*errors), on=lambda e: isinstance(e, StoreUnavailable), on_failure=told.append
            )
        assert e.value is missing
    assert len(told) == 1


@pytest.mark.parametrize("attempts", [1, 2, 5])
async def test_the_last_attempts_error_is_raised(attempts: int) -> None:
    with pytest.raises(StoreUnavailable, match=f"away {attempts - 1}"):
        await Retries(replace(QUICK, attempts=attempts)).call(failing(*away(9)), on=is_known)


async def test_the_last_attempt_begins_when_the_time_is_over() -> None:
    waits: list[float] = []
    policy = RetryPolicy(60.0, 60.0, total_s=0.3, jitter=False)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(StoreUnavailable, match="away 1"):
        await Retries(policy).call(
            failing(*away(9)), on=is_known, on_failure=lambda failure: waits.append(failure.wait_s)
        )
    assert len(waits) == 1 and waits[0] <= 0.3 <= loop.time() - began


async def test_a_wait_of_its_own_may_end_earlier() -> None:
    waited: list[Failure] = []

    async def at_once(failure: Failure) -> None:
        waited.append(failure)

    policy = RetryPolicy(3600.0, 3600.0, jitter=False)
    assert await Retries(policy).call(failing(*away(4)), on=is_known, wait=at_once) == "served"
    assert [failure.wait_s for failure in waited] == [3600.0] * 4


async def test_what_does_not_pass_has_a_policy_of_its_own_and_begins_anew_after_what_does() -> None:
    told: list[float] = []
    probes = RetryPolicy(0.003, 0.006, jitter=False)
    retries = Retries(RetryPolicy(0.001, 0.002, jitter=False), lasting=probes)
    errors = [ConfigError("a"), ConfigError("b"), ConfigError("c"), StoreUnavailable("d"), ConfigError("e")]
    await retries.call(failing(*errors), on=is_known, on_failure=lambda failure: told.append(failure.wait_s))
    assert told == [0.003, 0.006, 0.006, 0.001, 0.003]


async def test_one_that_was_served_begins_anew() -> None:
    told: list[float] = []
    retries = Retries(RetryPolicy(0.001, 1.0, jitter=False))
    errors = away(4)

    async def session() -> None:
        if len(errors) == 2:
            retries.reset()
        if errors:
            raise errors.pop()

    await retries.call(session, on=is_known, on_failure=lambda failure: told.append(failure.wait_s))
    assert told == [0.001, 0.002, 0.001, 0.002]


async def test_one_that_held_for_a_while_begins_anew() -> None:
    told: list[float] = []
    errors = away(3)

    async def session() -> None:
        if len(errors) == 1:
            await asyncio.sleep(0.06)
        if errors:
            raise errors.pop()

    policy = RetryPolicy(0.001, 1.0, jitter=False, healthy_s=0.05)
    await Retries(policy).call(session, on=is_known, on_failure=lambda failure: told.append(failure.wait_s))
    assert told[-1] == 0.001


@pytest.mark.parametrize("where", ["call", "wait"])
async def test_who_is_cancelled_ends(where: str) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        if where == "call":
            inside.set()
            await asyncio.Event().wait()
        raise StoreUnavailable("away")

    async def wait(_: Failure) -> None:
        inside.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(Retries(QUICK).call(work, on=is_known, wait=wait))
    await asyncio.wait_for(inside.wait(), HANG_S)
    task.cancel()
    await asyncio.wait({task}, timeout=HANG_S)
    assert task.cancelled()


POLICIES = [value for value in vars(module).values() if isinstance(value, RetryPolicy)]


@given(policy=st.sampled_from(POLICIES), failures=st.integers(1, 10**6))
def test_no_policy_waits_longer_than_it_says(policy: RetryPolicy, failures: int) -> None:
    assert 0.0 <= policy.wait_s(failures, random.Random(1)) <= policy.longest_s
