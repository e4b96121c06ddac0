import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.runpod.job_cache import Durations, InFlightCounter, PollInterval, PollMoment

PACE = PollInterval()
moments = st.builds(
    PollMoment,
    polls=st.integers(1, 100_000),
    in_flight=st.integers(1, 5000),
    running_s=st.none() | st.floats(0.0, 1e6),
    expected_s=st.none() | st.floats(0.0, 1e6),
)


def test_gaps_begin_at_half_a_second_and_grow_to_ten() -> None:
    gaps = [PACE.gap(PollMoment(looks)) for looks in range(1, 20)]
    assert gaps[:3] == [0.5, 0.75, 1.125]
    assert gaps == sorted(gaps) and gaps[-1] == 10.0


@given(moments)
def test_all_jobs_together_ask_no_more_than_fifty_times_a_second(moment: PollMoment) -> None:
    assert moment.in_flight / PACE.gap(moment) <= 50.0 + 1e-9


@given(moments)
def test_no_job_is_left_alone_longer_than_ten_seconds_unless_there_are_very_many(moment: PollMoment) -> None:
    assert 0.5 <= PACE.gap(moment) <= max(10.0, moment.in_flight / 50.0)


def test_a_job_that_cannot_have_ended_is_not_asked_for() -> None:
    assert PACE.gap(PollMoment(1, running_s=0.0, expected_s=6.0)) == pytest.approx(4.8)


def test_a_job_whose_end_is_near_is_asked_for_often_and_an_overdue_one_less_and_less() -> None:
    gaps = [PACE.gap(PollMoment(9, running_s=s, expected_s=6.0)) for s in (4.9, 6.0, 10.0, 20.0, 100.0)]
    assert gaps == pytest.approx([0.6, 0.6, 1.0, 3.5, 10.0])


@given(moments, st.integers())
def test_jitter_stays_within_a_fifth(moment: PollMoment, seed: int) -> None:
    gap = PACE.gap(moment)
    assert 0.8 * gap <= PACE.jittered(moment, random.Random(seed)) <= 1.2 * gap


def test_durations_are_learned_for_each_operation_and_forgotten_slowly() -> None:
    durations = Durations()
    durations.learn("ep", "caption", 100.0)
    assert durations.expected("ep", "caption") == 100.0
    assert durations.expected("ep", "transcribe") is None and durations.expected("other", "caption") is None
    for _ in range(40):
        durations.learn("ep", "caption", 10.0)
    assert 10.0 < (durations.expected("ep", "caption") or 0.0) < 10.1


def test_a_crowd_counts_who_is_in_it() -> None:
    counter = InFlightCounter()
    with counter.one_more(), counter.one_more():
        assert counter.size == 2
    assert counter.size == 0
