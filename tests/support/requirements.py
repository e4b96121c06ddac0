"""Tests that need something this machine may not have: skipped on a laptop, failed under CI=true, told at the end."""

from __future__ import annotations

import os
from collections import Counter

import pytest

_REMEDY = " Remedy: "


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def require(condition: object, reason: str, remedy: str) -> None:
    """Goes on when `condition` holds. Else skips the test with one line, or fails it in CI.

    `reason` is a sentence that says what is missing, `remedy` the command or the step that brings it.
    """
    if condition:
        return
    text = f"{reason}{_REMEDY}{remedy}"
    if in_ci():
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Lists what could not be run, grouped, each with its remedy."""
    skipped: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", ()):
        if isinstance(report.longrepr, tuple):
            skipped[str(report.longrepr[2]).removeprefix("Skipped: ")] += 1
    missing = {text: count for text, count in skipped.items() if _REMEDY in text}
    if not missing:
        return
    terminalreporter.section("could not be run here")
    for text, count in sorted(missing.items()):
        reason, _, remedy = text.partition(_REMEDY)
        terminalreporter.write_line(f"{count} test{'s' if count > 1 else ''}: {reason}")
        terminalreporter.write_line(f"    {remedy}")
