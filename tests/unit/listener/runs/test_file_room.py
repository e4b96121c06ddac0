"""Runs that name very many files take turns, in one folder the first that asked first, and no folder gets it all."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from listener.runs.admission import MANY, FileRoom

HERE = ("b", "here", "a")
THERE = ("b", "there")


async def test_turns_go_by_order_and_what_is_freed_is_given_on() -> None:
    room = FileRoom(20)
    assert room.try_acquire(6, HERE) and not room.try_acquire(5, HERE)
    order: list[int] = []

    async def wait(share: int) -> None:
        await room.acquire(share, HERE)
        order.append(share)

    tasks = [asyncio.create_task(wait(share)) for share in (8, 1, 2)]
    await asyncio.sleep(0)
    assert not order and not room.try_acquire(1, HERE)
    room.release(6, HERE)
    for _ in range(5):
        await asyncio.sleep(0)
    assert order == [8, 1]
    room.release(8, HERE)
    await asyncio.gather(*tasks)
    assert order == [8, 1, 2] and room.try_acquire(7, HERE) and not room.try_acquire(1, HERE)


async def test_who_no_longer_waits_holds_up_nobody() -> None:
    room = FileRoom(20)
    assert room.try_acquire(5, HERE)
    first, second = (asyncio.create_task(room.acquire(share, HERE)) for share in (9, 5))
    await asyncio.sleep(0)
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, 5)
    assert not room.try_acquire(1, HERE)


async def test_one_that_is_cancelled_as_its_turn_comes_gives_it_back() -> None:
    room = FileRoom(20)
    assert room.try_acquire(5, HERE)
    waiting = asyncio.create_task(room.acquire(9, HERE))
    await asyncio.sleep(0)
    room.release(5, HERE)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    assert room.try_acquire(10, HERE)


def test_only_long_lists_need_room_and_none_more_than_there_is() -> None:
    room = FileRoom(10_000)
    assert [room.share_of(n) for n in (MANY, MANY + 1, 9000)] == [0, MANY + 1, 5000]


async def test_a_folder_leaves_room_for_others_and_takes_turns_with_them() -> None:
    room = FileRoom(20)
    assert room.try_acquire(10, HERE) and not room.try_acquire(1, ("b", "here", "b"))
    assert room.try_acquire(10, THERE)
    order: list[str] = []

    async def wait(name: str) -> None:
        await room.acquire(2, ("b", "third", name))
        order.append(name)
        room.release(2, ("b", "third", name))

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for name in (*"aaaaaaaaaaaa", "b"):
            group.create_task(wait(name))
        await asyncio.sleep(0)
        assert not order
        room.release(10, THERE)
    assert order.index("b") < 9
    assert room.try_acquire(10, THERE) and not room.try_acquire(1, ("b", "third"))
    room.release(10, HERE)
    assert room.try_acquire(10, HERE)
