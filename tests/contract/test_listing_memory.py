"""What listing a large bucket costs, in a process of its own."""

from __future__ import annotations

from support.listings import made_up

KEYS = 200_000
MB = 2**20


def test_memory_does_not_grow_with_the_keys_of_a_bucket() -> None:
    with made_up(KEYS, odd=[(0, 1), (70_000, 2500)]) as server:
        measured = server.program()
    assert measured["ok"], measured
    assert measured["events"] == KEYS - 2501
    assert "2,501 keys unusable" in measured["detail"]
    assert measured["grown"] < 60 * MB
