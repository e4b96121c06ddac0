"""What a test has started, told apart from what the session had running before it."""

from __future__ import annotations

from dataclasses import dataclass, field

import psutil
import pytest


def _descendants() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]


@dataclass(frozen=True)
class Started:
    """Calling it lists the processes that came after it was made, and still run."""

    older: frozenset[int] = field(default_factory=lambda: frozenset(p.pid for p in _descendants()))

    def __call__(self) -> list[psutil.Process]:
        return [p for p in _descendants() if p.pid not in self.older]


@pytest.fixture
def started() -> Started:
    return Started()
