"""The gate: so many inside, turns by folder, and no place is lost with whoever stops waiting."""

from __future__ import annotations

import asyncio

from listener.fairness import FairGate


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
