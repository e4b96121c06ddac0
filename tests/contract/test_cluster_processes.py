"""Listeners in processes of their own on one PostgreSQL: killed, stopped, cut off, and never two at one thing."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.cluster import Listeners, Span, overlaps, sessions_of
from support.cluster_program import LOST
from support.deadlines import HANG_S
from support.servers import create_database, servers

KILLS = 8


@pytest.fixture
def listeners(postgres_url: str, tmp_path: Path) -> Iterator[Listeners]:
    running = Listeners(postgres_url, tmp_path / "journal.jsonl")
    yield running
    running.close()


def test_one_leads_at_a_time_however_often_the_leader_is_killed(listeners: Listeners) -> None:
    for name in "abc":
        listeners.start(name)
    for round_ in range(KILLS):
        leader = listeners.until(listeners.leader)
        listeners.kill(leader)
        killed = time.monotonic()
        listeners.start(f"{leader[0]}{round_}")
        heir = listeners.until(partial(listeners.leader, after=killed))
        assert heir != leader
    spans = listeners.led()
    assert len(spans) > KILLS
    assert overlaps(spans) == []


def test_a_stopped_leader_is_replaced_and_does_nothing_when_it_goes_on(listeners: Listeners) -> None:
    for name in "abc":
        listeners.start(name)
    leader = listeners.until(listeners.leader)
    listeners.send(leader, signal.SIGSTOP)
    stopped = time.monotonic()
    heir = listeners.until(lambda: listeners.leader(after=stopped + 0.01))
    assert heir != leader
    listeners.send(leader, signal.SIGCONT)
    listeners.until(lambda: (end := listeners.last(leader, "end")) and end.at > stopped and end)
    ticks = [n for n in listeners.notes() if n.name == leader and n.what == "tick" and n.at > stopped]
    assert [n for n in ticks if n.sure] == []
    assert len(ticks) <= 1, "one turn of the loop at most"
    listeners.kill(heir)
    killed = time.monotonic()
    listeners.until(partial(listeners.leader, after=killed))
    assert overlaps(listeners.led()) == []
    assert listeners.last(leader, "lost") is None, "nobody had taken its place"


def test_a_stopped_listener_whose_place_was_taken_over_ends(listeners: Listeners) -> None:
    listeners.start("a")
    listeners.start("b", look=True)
    listeners.send("a", signal.SIGSTOP)
    listeners.until(partial(_held_since, listeners, "m1", 0.0))
    listeners.send("a", signal.SIGCONT)
    assert listeners.processes["a"].wait(HANG_S) == LOST


def test_a_restarted_listener_gets_its_place_back(listeners: Listeners) -> None:
    places = {name: listeners.start(name).member for name in "abc"}
    assert sorted(places.values()) == ["m1", "m2", "m3"]
    for name in ("b", "a", "c"):
        listeners.kill(name)
        place = int(places[name].removeprefix("m"))
        listeners.until(lambda place=place: not sessions_of(listeners.url, place))
        assert listeners.start(f"{name} again").member == places[name]


def test_the_dead_are_orphans_of_one_survivor_at_a_time_and_the_living_of_none(listeners: Listeners) -> None:
    for name in "abcd":
        listeners.start(name, look=True)
    alive_until: dict[str, float] = {}
    for name in random.Random(3).sample("abcd", 2):
        member = listeners.until(partial(listeners.last, name, "open")).member
        alive_until[member] = time.monotonic()
        listeners.kill(name)
        for _ in range(3):
            now = time.monotonic()
            listeners.until(partial(_held_since, listeners, member, now))
    held = listeners.held()
    assert {s.what for s in held} == set(alive_until), "only the killed"
    assert all(s.start >= alive_until[s.what] for s in held)
    assert len({s.who for s in held}) > 1
    assert overlaps(held) == []


def _held_since(listeners: Listeners, member: str, at: float) -> list[Span]:
    return [span for span in listeners.held() if span.what == member and span.start > at]


def test_all_come_back_to_their_places_when_the_server_was_restarted(
    own_server: Callable[..., Any], tmp_path: Path
) -> None:
    server = own_server("postgres")
    listeners = Listeners(create_database(server), tmp_path / "journal.jsonl")
    try:
        for name in "abc":
            listeners.start(name)
        for _ in range(3):
            listeners.until(listeners.leader)
            servers.restart(server)
            restarted = time.monotonic()
            listeners.until(partial(listeners.leader, after=restarted))
        notes = listeners.notes()
        assert {n.what for n in notes} == {"open", "lead", "tick", "end"}
        assert {(n.name, n.member) for n in notes} == {(n.name, n.member) for n in notes if n.what == "open"}
        assert overlaps(listeners.led()) == []
        assert all(process.poll() is None for process in listeners.processes.values())
    finally:
        listeners.close()
