"""This machine's wall clock, and ages that a step of it does not change."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.clock")

STEP_S = 2.0
"""Seconds: the wall clock departs so far from the monotonic one only when it is set, or while the machine sleeps."""

_MOST_STEPS = 100


@dataclass(slots=True)
class _Period:
    """A period without a step."""

    start: float
    """When it begins, in seconds of the monotonic clock."""
    offset: float
    """Seconds by which the wall clock is ahead of the monotonic clock."""


class Clock:
    """Gives epoch seconds when called, for what is recorded and shown; ages and deadlines come from `age_s`.

    A step is noticed at the next reading and logged; moments before it keep their true age. A clock that is set back
    shows some moments twice: the later one counts, so that a deadline comes late by the step, never early. Records
    hold the wall clock's time, because a steady time of our own would stay wrong for the life of the process. Moments
    before this process began are known by the wall clock alone.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._stretches = [_Period(-math.inf, wall() - monotonic())]

    def __call__(self) -> float:
        self._read()
        return self._wall()

    def age_s(self, moment: float) -> float:
        """Returns the seconds since `moment`, which is in epoch seconds as this clock gave them then."""
        now = self._read()
        ends = [stretch.start for stretch in self._stretches[1:]] + [math.inf]
        shown = [
            (moment - stretch.offset, stretch.start, end) for stretch, end in zip(self._stretches, ends, strict=True)
        ]
        at = [at for at, start, end in shown if start <= at < end]
        if not at:
            # A step forward skipped this moment: it counts as the moment of the step.
            return now - min(start for at, start, _ in shown if at < start)
        return now - max([each for each in at if each <= now], default=min(at))

    def _read(self) -> float:
        """Returns the monotonic clock's time, and records a step of the wall clock since the last reading."""
        now = self._monotonic()
        current = self._stretches[-1]
        offset = self._wall() - now
        step_s = offset - current.offset
        if abs(step_s) < STEP_S:
            current.offset = offset
            return now
        self._stretches.append(_Period(now, offset))
        del self._stretches[1:-_MOST_STEPS]
        log.warning(
            "clock_stepped",
            by_s=round(step_s, 1),
            error=f"This machine's clock was set {'forward' if step_s > 0 else 'back'} by {abs(step_s):,.0f} s.",
            hint="Open runs keep their deadlines. Stores refuse requests from a clock that is 15 minutes wrong.",
        )
        return now
