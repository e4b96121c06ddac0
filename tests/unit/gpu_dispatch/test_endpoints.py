"""Where a task goes, decided without asking anybody."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gpu_dispatch.endpoints import (
    FAILURE_THRESHOLD,
    LATER_S,
    CircuitBreaker,
    EndpointSpec,
    EndpointState,
    NoEndpoint,
    choose_endpoint,
)

WHISPER = frozenset({"whisper"})
NOW = 1000.0


def spec(name: str, **changes: object) -> EndpointSpec:
    return EndpointSpec(name, **{"capabilities": WHISPER, **changes})  # pyright: ignore[reportArgumentType]


def chosen(
    specs: Sequence[EndpointSpec],
    states: Mapping[str, EndpointState] | None = None,
    *,
    avoid: Sequence[str] = (),
    refusals: Mapping[str, str] | None = None,
    now: float = NOW,
    draw: float = 0.0,
) -> EndpointSpec | NoEndpoint:
    return choose_endpoint(
        specs,
        states or {},
        capability="whisper",
        avoid=frozenset(avoid),
        refusals=refusals or {},
        now=now,
        draw=draw,
    )


names = st.sampled_from(["a", "b", "c", "d", "e"])
specs_ = st.lists(
    st.builds(
        EndpointSpec,
        name=names,
        capabilities=st.sets(st.sampled_from(["whisper", "nvenc"])).map(frozenset),
        order=st.integers(0, 2),
        weight=st.floats(0.01, 100),
        concurrency=st.none() | st.integers(0, 3),
    ),
    unique_by=lambda each: each.name,
    max_size=5,
)
states_ = st.dictionaries(
    names,
    st.builds(
        EndpointState,
        open_jobs=st.integers(0, 3),
        ok=st.booleans(),
        why=st.sampled_from(["", "workers are throttled"]),
        not_before=st.sampled_from([0.0, NOW, NOW + 5.0]),
        last_resort=st.booleans(),
    ),
)
draws = st.floats(0, 1, exclude_max=True)
some = st.sets(names)


def can_take(each: EndpointSpec, state: EndpointState, passed_over: set[str]) -> bool:
    """Said again in other words."""
    full = each.concurrency is not None and state.open_jobs >= each.concurrency
    dead = not state.ok and not state.last_resort
    return "whisper" in each.capabilities and not (full or dead or state.not_before > NOW or each.name in passed_over)


@given(specs_, states_, some, some, draws)
def test_a_task_goes_to_the_first_order_that_can_take_it_and_nowhere_only_when_none_can(
    specs: list[EndpointSpec], states: dict[str, EndpointState], avoid: set[str], refusing: set[str], draw: float
) -> None:
    found = chosen(specs, states, avoid=list(avoid), refusals=dict.fromkeys(refusing, "no such model"), draw=draw)
    takers = [s for s in specs if can_take(s, states.get(s.name, EndpointState(0)), avoid | refusing)]
    well = [s for s in takers if states.get(s.name, EndpointState(0)).ok]
    if isinstance(found, NoEndpoint):
        assert takers == []
        assert found.reasons and 0.0 < found.again_s <= LATER_S
        assert found.never == all(s.name in refusing for s in specs if "whisper" in s.capabilities)
    else:
        assert found in (well or takers)
        assert found.order == min(each.order for each in well or takers)


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=5), st.integers(0, 2**32))
def test_those_of_one_order_share_by_weight(weights: list[float], seed: int) -> None:
    specs = [spec(f"e{i}", weight=weight) for i, weight in enumerate(weights)]
    rng = random.Random(seed)
    offset = rng.random() / 1000
    draws = [offset + i / 1000 for i in range(1000)]
    counts: Counter[str] = Counter()
    for draw in draws:
        found = chosen(specs, draw=min(draw, 1.0 - 1e-12))
        assert isinstance(found, EndpointSpec)
        counts[found.name] += 1
    for each in specs:
        assert abs(counts[each.name] / 1000 - each.weight / sum(weights)) < 0.005


def test_a_full_endpoint_is_passed_over_and_soon_asked_again() -> None:
    first, second = spec("first", concurrency=2), spec("second", order=1, concurrency=1)
    full = {"first": EndpointState(2)}
    assert chosen([first, second]) == first
    assert chosen([first, second], full) == second
    found = chosen([first, second], {**full, "second": EndpointState(1)})
    assert isinstance(found, NoEndpoint)
    assert found.reasons == ("first: 2 of 2 jobs are there already", "second: 1 of 1 jobs are there already")
    assert found.again_s < 5.0 and not found.never


def test_one_that_is_slow_is_better_than_nobody_but_not_than_one_of_a_later_order() -> None:
    slow = {"first": CircuitBreaker().health_reported("slow", "its workers are throttled").state(0)}
    first, second = spec("first"), spec("second", order=1)
    assert chosen([first, second], slow) == second
    assert chosen([first], slow) == first
    assert chosen([first, second], slow, avoid=["second"]) == first


def test_one_without_workers_gets_nothing_and_says_why() -> None:
    found = chosen([spec("a")], {"a": CircuitBreaker().health_reported("dead", "It may start no workers.").state(0)})
    assert found == NoEndpoint(("a: It may start no workers.",), LATER_S)


def test_waiting_never_helps_where_nobody_can_do_such_a_task() -> None:
    nobody = chosen([spec("films", capabilities=frozenset({"nvenc"}))])
    assert isinstance(nobody, NoEndpoint) and nobody.never and "whisper" in nobody.reasons[0]
    refusing = chosen([spec("a"), spec("b")], refusals={"a": "it has no model turbo", "b": "no translation"})
    assert isinstance(refusing, NoEndpoint) and refusing.never
    assert refusing.reasons == ("a: it has no model turbo", "b: no translation")
    stopped = chosen([spec("a"), spec("b", concurrency=0)], refusals={"a": "it has no model turbo"})
    assert isinstance(stopped, NoEndpoint) and not stopped.never


def test_a_pause_ends_when_it_was_said_to() -> None:
    paused = {"a": EndpointState(0, not_before=NOW + 7.5)}
    found = chosen([spec("a")], paused)
    assert isinstance(found, NoEndpoint) and found.again_s == 7.5
    assert chosen([spec("a")], paused, now=NOW + found.again_s) == spec("a")


def test_a_few_refusals_are_borne_then_pauses_double() -> None:
    breaker, now, pauses = CircuitBreaker(), NOW, list[float]()
    for _ in range(FAILURE_THRESHOLD + 9):
        breaker = breaker.refused("it answered 503", now)
        pauses.append(max(0.0, breaker.not_before - now))
        now = max(now, breaker.not_before)
    assert pauses[: FAILURE_THRESHOLD + 2] == [0.0] * (FAILURE_THRESHOLD - 1) + [5.0, 10.0, 20.0]
    assert pauses[-1] == pauses[-2] == 300.0
    assert breaker.state(0).why == "it answered 503"
    assert breaker.accepted().state(3) == EndpointState(3)


def test_after_a_pause_one_task_tries_and_the_others_wait_for_its_outcome() -> None:
    breaker = CircuitBreaker()
    for _ in range(FAILURE_THRESHOLD):
        breaker = breaker.refused("away", NOW)
    back = breaker.not_before
    assert chosen([spec("a")], {"a": breaker.state(0)}, now=back) == spec("a")
    trying = breaker.probing(back)
    assert isinstance(chosen([spec("a")], {"a": trying.state(1)}, now=back), NoEndpoint)
    assert chosen([spec("a")], {"a": trying.accepted().state(1)}, now=back) == spec("a")
    again = trying.refused("away", back + 1.0)
    assert again.not_before - (back + 1.0) > back - NOW
    assert CircuitBreaker().probing(NOW) == CircuitBreaker()


@pytest.mark.parametrize("failures", [1, FAILURE_THRESHOLD, FAILURE_THRESHOLD + 1])
def test_an_endpoint_is_left_alone_for_as_long_as_it_asked(failures: int) -> None:
    breaker = CircuitBreaker()
    for _ in range(failures):
        breaker = breaker.refused("too many requests", NOW, wait_s=42.0)
    assert breaker.not_before == NOW + 42.0


@given(st.lists(st.sampled_from(["taken", "refused", "trying", "slow", "dead", "well"]), max_size=30))
def test_an_endpoint_that_answers_well_again_is_used_again(events: list[str]) -> None:
    breaker = CircuitBreaker()
    for i, event in enumerate(events):
        if event == "taken":
            breaker = breaker.accepted()
        elif event == "refused":
            breaker = breaker.refused("away", NOW + i)
        elif event == "trying":
            breaker = breaker.probing(NOW + i)
        elif event == "slow" or event == "dead" or event == "well":
            breaker = breaker.health_reported(event, event)
    assume(events)
    assert breaker.health_reported("well").accepted().state(1) == EndpointState(1)
    # Whatever happened, it is tried again within minutes once it is said to be well.
    assert chosen([spec("a")], {"a": breaker.health_reported("well").state(0)}, now=NOW + len(events) + 301.0) == spec(
        "a"
    )


def test_health_is_not_forgotten_because_a_queue_took_a_task() -> None:
    assert not CircuitBreaker().health_reported("dead", "no workers").accepted().state(0).ok
