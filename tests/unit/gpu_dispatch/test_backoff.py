import random

from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.backoff import Backoff, Deadline

attempts = st.integers(1, 10_000)


@given(attempts, st.integers())
def test_a_delay_lies_below_its_bound_and_the_bound_below_the_cap(attempt: int, seed: int) -> None:
    backoff = Backoff(base_s=0.5, cap_s=30.0)
    assert 0.0 <= backoff.delay(attempt, random.Random(seed)) <= backoff.bound(attempt) <= 30.0


def test_bounds_double_up_to_the_cap() -> None:
    assert [Backoff(0.5, 3.0).bound(n) for n in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_delays_use_the_whole_range() -> None:
    rng = random.Random(1)
    delays = [Backoff(1.0, 8.0).delay(4, rng) for _ in range(2000)]
    assert min(delays) < 0.1 and max(delays) > 7.9
    assert 3.6 < sum(delays) / len(delays) < 4.4


def test_a_deadline_counts_down_to_nothing() -> None:
    deadline = Deadline.after(10.0, now=100.0)
    assert (deadline.left(104.0), deadline.left(120.0)) == (6.0, 0.0)
    assert not deadline.over(109.9) and deadline.over(110.0)
