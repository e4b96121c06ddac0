"""How often RunPod may be called, decided without waiting. Times are seconds on whatever clock `now` is read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["run", "status", "cancel", "retry", "health", "purge"]

WINDOW_S = 10.0


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `calls` in any ten seconds, and `at_once` under way."""

    calls: int
    at_once: int

    def bucket(self) -> TokenBucket:
        """A tenth of the calls may come at once; the rest is spread, so that no ten seconds see more than `calls`."""
        burst = max(1, self.calls // 10)
        return TokenBucket(rate=max(1, self.calls - burst) / WINDOW_S, burst=burst)


LIMITS: Mapping[Kind, RateLimit] = {
    "run": RateLimit(1000, 200),
    "status": RateLimit(2000, 400),
    "cancel": RateLimit(100, 20),
    "retry": RateLimit(100, 20),
    "health": RateLimit(100, 20),
    "purge": RateLimit(2, 1),
}
"""Per endpoint, as RunPod documents them (August 2026); for retry and health it says nothing, and we are modest."""


@dataclass(slots=True)
class TokenBucket:
    """Lets `burst` calls through at once and `rate` a second after that, in the order in which they asked."""

    rate: float
    burst: int = 1
    _next: float = field(default=float("-inf"), init=False)
    """When a bucket that is never full would let the next call through."""
    _paused_until: float = field(default=float("-inf"), init=False)

    def wait(self, now: float) -> float:
        """How long a call that asks now would wait."""
        return max(0.0, self._next - (self.burst - 1) / self.rate - now, self._paused_until - now)

    def take(self, now: float) -> float:
        """Books the next call; the answer is how long it has to wait."""
        wait = self.wait(now)
        self._next = max(self._next, now) + 1 / self.rate
        return wait

    def pause(self, until: float) -> None:
        """Nothing passes before `until`, and then one after the other: the other side says that it is too much."""
        self._paused_until = max(self._paused_until, until)
        self._next = max(self._next, self._paused_until + (self.burst - 1) / self.rate)

    def paused(self, now: float) -> float:
        """What is left of a pause. A call that was booked before the pause has to book again."""
        return max(0.0, self._paused_until - now)
