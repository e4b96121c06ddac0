"""The demo finds what it drops."""

from __future__ import annotations

from listener.cli.demo import SAMPLES
from support import installation


def test_the_samples_lie_where_the_demo_looks_for_them() -> None:
    assert SAMPLES == installation.SAMPLES
    assert any(SAMPLES.glob("*.job.*"))
