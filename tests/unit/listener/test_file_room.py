"""Runs that name very many files take turns, the first that asked first."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from listener.runs.file_room import MANY, FileRoom


async def test_turns_go_by_order_and_what_is_freed_is_given_on() -> None:
    room = FileRoom(10)
    assert room.try_take(6) and not room.try_take(5)
    order: list[int] = []

    async def wait(share: int) -> None:
        await room.take(share)
        order.append(share)

    tasks = [asyncio.create_task(wait(share)) for share in (8, 1, 2)]
    await asyncio.sleep(0)
    assert not order and not room.try_take(1)
    room.free(6)
    for _ in range(5):
        await asyncio.sleep(0)
    assert order == [8, 1]
    room.free(8)
    await asyncio.gather(*tasks)
    assert order == [8, 1, 2] and room.try_take(7) and not room.try_take(1)


async def test_who_no_longer_waits_holds_up_nobody() -> None:
    room = FileRoom(10)
    assert room.try_take(5)
    first, second = (asyncio.create_task(room.take(share)) for share in (9, 5))
    await asyncio.sleep(0)
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, 5)
    assert not room.try_take(1)


async def test_one_that_is_cancelled_as_its_turn_comes_gives_it_back() -> None:
    room = FileRoom(10)
    assert room.try_take(5)
    waiting = asyncio.create_task(room.take(9))
    await asyncio.sleep(0)
    room.free(5)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    assert room.try_take(10)


def test_only_long_lists_need_room_and_none_more_than_there_is() -> None:
    room = FileRoom(5000)
    assert [room.share_of(n) for n in (MANY, MANY + 1, 9000)] == [0, MANY + 1, 5000]
