"""Ages do not jump when the wall clock does."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from listener.clock import Clock

HOUR = 3600.0


@dataclass
class Machine:
    """A machine whose wall clock a test sets."""

    wall: float = 1_800_000_000.0
    monotonic: float = 50.0

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.monotonic)

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@pytest.mark.parametrize("step", [HOUR, -HOUR, 720.0, -30.0])
def test_a_step_makes_nothing_older_or_younger(step: float) -> None:
    machine = Machine()
    clock = machine.clock()
    earlier = clock()
    machine.passes(100.0)
    before = clock()
    machine.passes(10.0)
    with capture_logs() as logs:
        machine.wall += step
        assert clock.age_s(earlier) == pytest.approx(110.0)
        machine.passes(5.0)
        after = clock()
        machine.passes(7.0)
        assert [clock.age_s(earlier), clock.age_s(after)] == pytest.approx([122.0, 7.0])
    assert clock() == machine.wall
    assert clock.age_s(before) <= 22.0 + 1e-6
    assert [entry["by_s"] for entry in logs if entry["event"] == "clock_stepped"] == [step]


def test_a_moment_that_was_shown_twice_is_the_later_one() -> None:
    """So a deadline may come late, by no more than the step, and never early."""
    machine = Machine()
    clock = machine.clock()
    machine.passes(100.0)
    before = clock()
    machine.wall -= 30.0
    clock()
    machine.passes(40.0)
    assert clock.age_s(before) == pytest.approx(10.0)


def test_a_moment_that_was_never_shown_came_with_the_step() -> None:
    machine = Machine()
    clock = machine.clock()
    skipped = clock() + HOUR / 2
    machine.wall += HOUR
    clock()
    machine.passes(20.0)
    assert clock.age_s(skipped) == pytest.approx(20.0)


def test_there_and_back_again() -> None:
    machine = Machine()
    clock = machine.clock()
    before = clock()
    for step in (HOUR, -HOUR, -HOUR, HOUR):
        machine.passes(10.0)
        machine.wall += step
        clock()
    machine.passes(10.0)
    assert clock.age_s(before) == pytest.approx(50.0)


def test_what_lies_before_this_process_is_told_by_the_wall_clock() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.passes(5.0)
    assert clock.age_s(machine.wall - 10 * HOUR) == pytest.approx(10 * HOUR)
    assert clock.age_s(machine.wall + 3.0) == pytest.approx(-3.0)


def test_a_clock_that_is_slewed_is_followed() -> None:
    machine = Machine()
    clock = machine.clock()
    with capture_logs() as logs:
        for _ in range(1000):
            machine.passes(2.0)
            machine.wall += 0.01
            clock()
    assert clock.age_s(machine.wall - 100.0) == pytest.approx(100.0)
    assert not logs
