"""This machine's wall clock, and how much time has passed really: a step of the wall clock makes nothing older."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.clock")

STEP_S = 2.0
"""A difference between two looks that no clock comes by unless it was set, or the machine slept."""

_MOST_STEPS = 100


@dataclass(slots=True)
class _Stretch:
    """A time without a step: it begins at `start` of the monotonic clock, on which the wall clock lies `offset` ahead.

    Both in seconds.
    """

    start: float
    offset: float


class Clock:
    """Called, it gives epoch seconds, for what is recorded and shown. Ages and deadlines come from `age_s`.

    A step is noticed at the next look, logged, and forgiven: moments before it keep the age they have really. Of a
    moment that a clock set back has shown twice, the later is taken: a deadline comes late by a step, never early.
    Records hold the wall clock's time: a steady time of our own would stay wrong for as long as the process lives. What
    happened before this process began is told by the wall clock alone.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._stretches = [_Stretch(-math.inf, wall() - monotonic())]

    def __call__(self) -> float:
        self._look()
        return self._wall()

    def age_s(self, moment: float) -> float:
        """Seconds since `moment`, epoch seconds as this clock gave them then."""
        now = self._look()
        ends = [stretch.start for stretch in self._stretches[1:]] + [math.inf]
        shown = [
            (moment - stretch.offset, stretch.start, end) for stretch, end in zip(self._stretches, ends, strict=True)
        ]
        at = [at for at, start, end in shown if start <= at < end]
        if not at:
            # A step has skipped it: it came with that step.
            return now - min(start for at, start, _ in shown if at < start)
        return now - max([each for each in at if each <= now], default=min(at))

    def _look(self) -> float:
        """The monotonic clock's time; takes in what the wall clock has done since the last look."""
        now = self._monotonic()
        current = self._stretches[-1]
        offset = self._wall() - now
        step_s = offset - current.offset
        if abs(step_s) < STEP_S:
            current.offset = offset
            return now
        self._stretches.append(_Stretch(now, offset))
        del self._stretches[1:-_MOST_STEPS]
        log.warning(
            "clock_stepped",
            by_s=round(step_s, 1),
            error=f"This machine's clock was set {'forward' if step_s > 0 else 'back'} by {abs(step_s):,.0f} s.",
            hint="Open runs keep their deadlines. Stores refuse requests from a clock that is 15 minutes wrong.",
        )
        return now
