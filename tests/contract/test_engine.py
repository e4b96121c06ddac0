"""Runs survive kill -9 wherever it strikes: work that was recorded is not done again, answers are not mixed up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from support.scripts import ROOT

PROGRAM = ROOT / "tests" / "support" / "engine_program.py"
LINES = ["read", *(f"{step} a!{i}" for step in ("submit", "wait") for i in range(4)), "fail", "write"]


def run(folder: Path, kill_at: str) -> int:
    return subprocess.run(
        [sys.executable, str(PROGRAM), str(folder / "engine.sqlite"), str(folder / "trace"), kill_at],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    ).returncode


@pytest.mark.parametrize("kill_at", ["read", "submit a!2", "wait a!0", "fail", "write"])
def test_killed_inside_a_step(tmp_path: Path, kill_at: str) -> None:
    assert run(tmp_path, kill_at) == -9
    assert run(tmp_path, "never") == 0
    done = Counter((tmp_path / "trace").read_text().splitlines())
    assert set(done) == set(LINES)
    # The step it struck, and those of other children whose record it cut off, are done again; nothing that came before.
    assert done[kill_at] == 2
    assert all(done[line] <= 2 for line in LINES)
    if kill_at != "read":
        assert done["read"] == 1
    if kill_at in ("fail", "write"):
        assert all(done[line] == 1 for line in LINES if line[0] in "sw" and line != "write")


def test_submitted_many_times_runs_once(tmp_path: Path) -> None:
    assert run(tmp_path, "never") == 0
    assert Counter((tmp_path / "trace").read_text().splitlines()) == Counter(LINES)
