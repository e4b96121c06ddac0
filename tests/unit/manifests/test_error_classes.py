"""What an error means for an accepted run, and which one of several decides."""

from __future__ import annotations

import asyncio

import pytest

from manifests.error_classes import decisive_error, is_waited_for
from manifests.errors import (
    GpuDropError,
    InputMissing,
    InputTooLarge,
    ObjectDenied,
    OutputMissing,
    RunCancelled,
    StoreDenied,
    StoreUnavailable,
    UnusableKey,
)
from manifests.task_groups import gather_all, task_group

FINAL = (InputMissing, InputTooLarge, ObjectDenied, OutputMissing, RunCancelled, UnusableKey)


@pytest.mark.parametrize("kind", [StoreUnavailable, StoreDenied])
def test_what_every_run_meets_is_waited_for(kind: type[GpuDropError]) -> None:
    assert is_waited_for(kind("no"))


@pytest.mark.parametrize("kind", FINAL)
def test_what_is_about_one_object_ends_its_run(kind: type[GpuDropError]) -> None:
    assert not is_waited_for(kind("no"))


def test_one_object_is_refused_under_the_code_of_a_refusal() -> None:
    assert ObjectDenied("no").info.code == StoreDenied.code
    assert type(GpuDropError.from_info(ObjectDenied("no").info)) is StoreDenied


def test_a_defect_stays_one_and_the_store_comes_before_what_it_may_have_caused() -> None:
    final, away, ended, defect = InputMissing("f"), StoreUnavailable("a"), RunCancelled("c"), KeyError("d")
    assert decisive_error([final, away]) is away
    assert decisive_error([away, final, ended]) is ended
    assert decisive_error([ended, away, defect]) is defect
    assert decisive_error([final]) is final


async def failing(error: BaseException, after_s: float = 0.0) -> None:
    await asyncio.sleep(after_s)
    raise error


@pytest.mark.parametrize("error", [StoreUnavailable("away"), KeyError("a defect")], ids=["ours", "a defect"])
async def test_a_group_raises_what_went_wrong_and_no_group(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        async with task_group() as outer:
            outer.create_task(asyncio.sleep(3600))
            async with task_group() as inner:
                inner.create_task(asyncio.sleep(3600))
                inner.create_task(failing(error))
    assert raised.value is error


async def test_a_groups_own_body_and_its_cancellation_stay_what_they_are() -> None:
    with pytest.raises(InputMissing):
        async with task_group() as group:
            group.create_task(asyncio.sleep(3600))
            raise InputMissing("no")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), task_group() as group:
            group.create_task(asyncio.sleep(3600))


async def test_all_that_was_begun_comes_to_its_end_before_an_error_is_raised() -> None:
    ended: list[int] = []

    async def working() -> int:
        await asyncio.sleep(0.05)
        ended.append(1)
        return 1

    assert await gather_all([working(), working()]) == [1, 1]
    with pytest.raises(StoreUnavailable):
        await gather_all([failing(InputMissing("f")), failing(StoreUnavailable("a"), 0.01), working()])
    assert len(ended) == 3
