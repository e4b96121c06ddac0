"""Fair shares: turns at every level of the tree, bounds, and nobody who gains by making folders."""

from __future__ import annotations

from collections import Counter

import pytest

from gpu_dispatch.fair_queue import FairQueue
from listener.fairness import Bound, Turns, pick, share_of, share_path


def queue(*shares: str) -> FairQueue[str]:
    found: FairQueue[str] = FairQueue()
    for i, share in enumerate(shares):
        found.push(share_path(share), f"{share} {i}")
    return found


def drained(found: FairQueue[str]) -> list[str]:
    return [found.pop() for _ in range(len(found))]


@pytest.mark.parametrize(
    ("key", "share"),
    [("a.job.json", "b"), ("x/a.job.json", "b/x"), ("x/y/z/w/a.job.json", "b/x/y/z"), ("x/y/", "b/x/y")],
)
def test_a_share_is_named_by_the_first_folders(key: str, share: str) -> None:
    assert share_of("b", key) == share


def test_one_drop_beside_a_flood_is_second() -> None:
    assert drained(queue(*["b/flood"] * 50, "b/other"))[1] == "b/other 50"


def test_many_folders_below_one_are_one_share() -> None:
    shares = [f"b/flood/{i}" for i in range(50)]
    assert drained(queue(*shares, "b/other"))[1] == "b/other 50"
    waiting = {**dict.fromkeys(shares, 1), "b/other": 40}
    picked = pick(waiting, [], 20, Turns())
    assert picked["b/other"] == 10


def test_neighbours_far_below_take_turns_too() -> None:
    shares = ["b/users/alice"] * 30 + ["b/users/bob", "b/z"]
    assert {item.split()[0] for item in drained(queue(*shares))[:4]} == set(shares)


def test_items_of_one_share_keep_their_order() -> None:
    assert drained(queue("b/x", "b/x", "b/x")) == ["b/x 0", "b/x 1", "b/x 2"]


def test_an_empty_queue_says_so() -> None:
    found = queue("b/x")
    assert found.within(("b",)) == 1 and list(found) == ["b/x 0"]
    found.pop()
    assert not found and not found.within(("b",))
    with pytest.raises(IndexError):
        found.pop()


def test_whoever_holds_fewest_is_next() -> None:
    bound = Bound({"b/flood": 500, "b/other": 3}, 1000)
    assert pick({"b/flood": 9000, "b/other": 5}, [bound], 32, Turns()) == {"b/other": 5, "b/flood": 27}


def test_one_folder_leaves_room_for_its_neighbours() -> None:
    bound = Bound({"b/flood/1": 400, "b/flood/2": 474}, 1000)
    assert pick({"b/flood/1": 9000, "b/flood/3": 9000}, [bound], 32, Turns()).total() == 1
    assert pick({"b/flood/1": 9000, "b/other": 1}, [bound], 32, Turns())["b/other"] == 1


def test_few_places_are_all_for_whoever_comes() -> None:
    assert pick({"b/x": 9}, [Bound({}, 3)], 3, Turns()) == {"b/x": 3}
    assert not pick({"b/x": 9}, [Bound({"b/x": 3}, 3)], 3, Turns())
    assert pick({"b/x": 9}, [Bound({}, 6, reserved=1)], 6, Turns()) == {"b/x": 5}


def test_a_single_place_goes_round() -> None:
    turns, got = Turns(), Counter[str]()
    for _ in range(10):
        got += pick({"b/flood": 9000, "b/other": 10, "c": 10}, [Bound({}, 1)], 1, turns)
    assert got["c"] == 5 and {got["b/flood"], got["b/other"]} == {2, 3}


def test_every_bound_counts() -> None:
    assert pick({"b/x": 9}, [Bound({}, 100), Bound({"b/x": 7}, 8)], 9, Turns()) == {}
