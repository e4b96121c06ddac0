"""Turns at endpoints that are full: folders one after another, whoever gives up or is placed lets the next one ask."""

from __future__ import annotations

from listener.dispatch.parked_tasks import SlotTurns, Turn

GPU, CPU = frozenset({"gpu"}), frozenset({"cpu", "other"})


def joined(turns: SlotTurns, *folders: str) -> list[Turn]:
    return [turns.join(GPU, ("b", folder)) for folder in folders]


def next_of(turns: list[Turn]) -> list[int]:
    return [i for i, turn in enumerate(turns) if turn.mine.is_set() and not turn.given_up]


def test_folders_take_turns() -> None:
    turns = SlotTurns()
    waiting = joined(turns, "flood", "flood", "flood", "flood", "other")
    order: list[int] = []
    while now := next_of(waiting):
        (one,) = now
        order.append(one)
        turns.leave(waiting[one])
    assert order == [0, 1, 4, 2, 3]


def test_who_gives_up_while_it_waits_is_passed_over() -> None:
    turns = SlotTurns()
    waiting = joined(turns, "a", "b", "c")
    turns.leave(waiting[1])
    turns.leave(waiting[0])
    turns.leave(waiting[0])
    assert next_of(waiting) == [2]


def test_those_who_wait_for_other_endpoints_do_not_wait_for_each_other() -> None:
    turns = SlotTurns()
    here, there = turns.join(GPU, ("b", "a")), turns.join(CPU, ("b", "a"))
    assert here.mine.is_set() and there.mine.is_set()
    turns.leave(here)
    assert turns.join(GPU, ("b", "c")).mine.is_set()
