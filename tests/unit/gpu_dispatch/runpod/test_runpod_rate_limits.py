from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.runpod.rate_limits import LIMITS, Kind, RateLimit, TokenBucket

gaps = st.lists(st.floats(0.0, 3.0), max_size=300)


def sent_at(bucket: TokenBucket, gaps: list[float]) -> list[float]:
    """When calls go out that are asked for with `gaps` between them."""
    now, sent = 1000.0, []
    for gap in gaps:
        now += gap
        sent.append(now + bucket.take(now))
    return sent


def most_in_ten_seconds(sent: list[float]) -> int:
    window: deque[float] = deque()
    most = 0
    for at in sent:
        window.append(at)
        while window[0] <= at - 10.0 + 1e-6:
            window.popleft()
        most = max(most, len(window))
    return most


@given(st.sampled_from([RateLimit(2, 1), RateLimit(20, 4), RateLimit(100, 20)]), gaps)
def test_no_ten_seconds_see_more_calls_than_the_limit(limit: RateLimit, gaps: list[float]) -> None:
    assert most_in_ten_seconds(sent_at(limit.bucket(), gaps)) <= limit.calls


@given(gaps)
def test_calls_go_out_in_the_order_they_were_asked_for(gaps: list[float]) -> None:
    sent = sent_at(RateLimit(20, 4).bucket(), gaps)
    assert sent == sorted(sent)


@pytest.mark.parametrize("kind", ["run", "status"])
def test_a_thousand_calls_take_little_longer_than_they_must(kind: Kind) -> None:
    limit = LIMITS[kind]
    sent = sent_at(limit.bucket(), [0.0] * limit.calls)
    assert sent[-1] - sent[0] <= 10.0 + 1e-6
    assert sent[limit.calls // 10 - 1] - sent[0] < 1e-6


def test_an_idle_bucket_does_not_save_up_more_than_its_burst() -> None:
    bucket = TokenBucket(rate=1.0, burst=3)
    bucket.take(0.0)
    assert [bucket.take(100.0) for _ in range(5)] == [0.0, 0.0, 0.0, 1.0, 2.0]


def test_after_a_pause_calls_go_out_one_by_one() -> None:
    bucket = TokenBucket(rate=2.0, burst=10)
    bucket.pause(until=5.0)
    assert bucket.paused(1.0) == 4.0
    assert [bucket.take(1.0) for _ in range(3)] == [4.0, 4.5, 5.0]
    assert bucket.paused(5.0) == 0.0


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    bucket = TokenBucket(rate=1.0)
    bucket.pause(until=30.0)
    bucket.pause(until=10.0)
    assert bucket.wait(0.0) == 30.0
