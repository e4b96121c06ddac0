"""`make test` leaves the long tests to `make test-all`, says how many, and runs whole what is named."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from support import distribution, selection
from support.scripts import ROOT

NAMED = (*selection.FULL, *selection.QUICK, *distribution.WITH_BROKERS)


def test_the_quick_set_has_the_samples_and_the_files_that_are_named() -> None:
    asked = ("--quick", "tests/e2e", "tests/e2e/test_reload.py")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *asked]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    files = set(re.findall(r"^tests/e2e/(test_\w+)\.py::", done.stdout, re.MULTILINE))
    assert files == {"test_samples", "test_reload"}
    assert re.search(r"\d\d+ more tests: make test-all", done.stdout)


@pytest.mark.parametrize("pattern", NAMED)
def test_what_is_named_is_there(pattern: str) -> None:
    """A file that gets another name would be quick, or start servers of its own, and nobody would notice."""
    assert any(path.match(pattern) for path in (ROOT / "tests").glob("*/**/test_*.py"))
