"""Backoff and deadlines: how long to wait, without waiting. Times are seconds."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: waits are uniform between 0 and a bound that doubles with each attempt, up to `cap_s`.

    The spread keeps clients that failed together from coming back together.
    """

    base_s: float = 0.5
    cap_s: float = 30.0

    def bound(self, attempt: int) -> float:
        """Returns the longest wait after failed attempt number `attempt`, counted from 1."""
        return min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 64))

    def delay(self, attempt: int, rng: random.Random) -> float:
        return rng.uniform(0.0, self.bound(attempt))


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the clock that `now` is read from."""

    at: float

    @classmethod
    def after(cls, seconds: float, now: float) -> Deadline:
        return cls(now + seconds)

    def left(self, now: float) -> float:
        """Returns the seconds left, at least 0."""
        return max(0.0, self.at - now)

    def over(self, now: float) -> bool:
        return now >= self.at
