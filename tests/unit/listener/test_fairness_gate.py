"""The gate: so many inside, turns by folder, and no place is lost with whoever stops waiting."""

from __future__ import annotations

import asyncio

from listener.fairness import FairGate, turn_of


async def enter(gate: FairGate, name: str, order: list[str], leave: asyncio.Event) -> None:
    async with gate.turn(("b", name)):
        order.append(name)
        await leave.wait()


async def test_folders_take_turns_and_never_more_are_inside_than_may_be() -> None:
    gate, order, leave = FairGate(2), list[str](), asyncio.Event()
    names = ["flood"] * 6 + ["other"]
    tasks = [asyncio.create_task(enter(gate, name, order, leave)) for name in names]
    await asyncio.sleep(0)
    assert order == ["flood", "flood"]
    leave.set()
    await asyncio.gather(*tasks)
    assert order.index("other") <= 3 and len(order) == len(names)


async def test_who_stops_waiting_takes_no_place_along() -> None:
    gate, order, leave = FairGate(1), list[str](), asyncio.Event()
    tasks = [asyncio.create_task(enter(gate, name, order, leave)) for name in ("a", "b", "c", "d")]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    leave.set()
    await asyncio.sleep(0)
    # Its turn has just come.
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["a", "d"]
    async with asyncio.timeout(10), gate.turn(("b", "e")):
        pass


async def test_drops_at_a_buckets_root_are_bounded_together_as_those_of_a_folder_are() -> None:
    gate, order, leave = FairGate(3, of_one=2), list[str](), asyncio.Event()

    async def of(key: str) -> None:
        async with gate.turn(turn_of("b", key)):
            order.append(key)
            await leave.wait()

    tasks = [asyncio.create_task(of(key)) for key in ("1.json", "2.json", "3.json", "folder/4.json")]
    for _ in range(5):
        await asyncio.sleep(0)
    assert order == ["1.json", "2.json", "folder/4.json"]
    leave.set()
    await asyncio.gather(*tasks)


async def test_drops_at_a_buckets_root_have_one_turn_together() -> None:
    gate, order = FairGate(1), list[str]()

    async def of(key: str) -> None:
        async with gate.turn(turn_of("b", key)):
            order.append(key)
            await asyncio.sleep(0)

    keys = [*(f"{i}.json" for i in range(6)), "folder/a.json", "folder/b.json"]
    await asyncio.gather(*(of(key) for key in keys))
    assert order.index("folder/b.json") <= 4
