"""When to look at a job again, decided without waiting. Times are seconds."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

_WEIGHT = 0.2
_EARLY = 0.8
_STEP = 0.1
_OVERDUE_STEP = 0.25


@dataclass(frozen=True, slots=True)
class PollMoment:
    """Where a job stands: `looks` that found nothing new (from 1), `in_flight` jobs that are looked at, all together.

    `running_s` is how long it has been seen to run; `expected_s` how long such jobs take. None: not known.
    """

    looks: int
    in_flight: int = 1
    running_s: float | None = None
    expected_s: float | None = None


@dataclass(frozen=True, slots=True)
class PollInterval:
    """Short gaps at first, since many jobs are short, then longer ones, since long jobs can wait.

    Where it is known how long such a job takes, there is nothing to see before that. However many jobs there are, all
    looks together stay below `calls_per_s`: gaps grow with their number.
    """

    first_s: float = 0.5
    longest_s: float = 10.0
    growth: float = 1.5
    calls_per_s: float = 50.0
    spread: float = 0.2

    def gap(self, moment: PollMoment) -> float:
        return max(self._alone(moment), moment.in_flight / self.calls_per_s)

    def jittered(self, moment: PollMoment, rng: random.Random) -> float:
        """Jobs that were sent together are not looked at together."""
        return self.gap(moment) * rng.uniform(1.0 - self.spread, 1.0 + self.spread)

    def _alone(self, moment: PollMoment) -> float:
        if moment.running_s is None or not moment.expected_s:
            return min(self.longest_s, self.first_s * self.growth ** min(moment.looks - 1, 64))
        early = _EARLY * moment.expected_s - moment.running_s
        if early > 0:
            return min(self.longest_s, max(self.first_s, early))
        late = max(_STEP * moment.expected_s, _OVERDUE_STEP * (moment.running_s - moment.expected_s))
        return min(self.longest_s, max(self.first_s, late))


class Durations:
    """How long jobs of an operation take at an endpoint: a mean that forgets slowly."""

    def __init__(self) -> None:
        self._means: dict[tuple[str, str], float] = {}

    def learn(self, endpoint_id: str, operation: str, seconds: float) -> None:
        known = self._means.get((endpoint_id, operation), seconds)
        self._means[endpoint_id, operation] = known + _WEIGHT * (seconds - known)

    def expected(self, endpoint_id: str, operation: str) -> float | None:
        return self._means.get((endpoint_id, operation))


class InFlightCounter:
    """How many jobs are looked at now, at all endpoints that share it."""

    def __init__(self) -> None:
        self.size = 0

    @contextmanager
    def one_more(self) -> Generator[None]:
        self.size += 1
        try:
            yield
        finally:
            self.size -= 1
