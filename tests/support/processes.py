"""What a test has started, told apart from what the session had running before it."""

from __future__ import annotations

from dataclasses import dataclass, field

import psutil
import pytest


def lives(process: psutil.Process) -> bool:
    """Whether it still runs; one that nobody has asked for its exit status does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def name_of(process: psutil.Process) -> str:
    """Its program's name; "" for one that is gone."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def _descendants() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if lives(process)]


@dataclass(frozen=True)
class Started:
    """Calling it lists the processes that came after it was made, and still run."""

    older: frozenset[int] = field(default_factory=lambda: frozenset(p.pid for p in _descendants()))

    def __call__(self) -> list[psutil.Process]:
        return [p for p in _descendants() if p.pid not in self.older and not self._serves_the_session(p)]

    def _serves_the_session(self, process: psutil.Process) -> bool:
        """A server of the session forks when it likes: PostgreSQL to tidy up, RabbitMQ to look at its disk."""
        try:
            return not self.older.isdisjoint(parent.pid for parent in process.parents())
        except psutil.NoSuchProcess:
            return True


@pytest.fixture
def started() -> Started:
    return Started()
