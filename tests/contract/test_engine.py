"""Runs survive kill -9 wherever it strikes: work that was recorded is not done again, answers are not mixed up."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from support.deadlines import HANG_S
from support.scripts import ROOT

PROGRAM = ROOT / "tests" / "support" / "engine_program.py"
JOBS = 4


def lines(jobs: int) -> list[str]:
    return ["read", *(f"{step} a!{i}" for step in ("submit", "wait") for i in range(jobs)), "fail", "write"]


def run(folder: Path, kill_at: str, *, jobs: int = JOBS, version: str = "") -> int:
    return subprocess.run(
        [sys.executable, str(PROGRAM), str(folder), kill_at, str(jobs), version],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=HANG_S,
        check=False,
    ).returncode


def trace(folder: Path) -> Counter[str]:
    return Counter((folder / "trace").read_text().splitlines())


def workflows(folder: Path) -> dict[str, tuple[str, str]]:
    """Version and state by id, as the engine has recorded them."""
    with closing(sqlite3.connect(folder / "engine.sqlite")) as db:
        rows = db.execute("SELECT workflow_uuid, application_version, status FROM workflow_status").fetchall()
    return {row[0]: (row[1], row[2]) for row in rows}


@pytest.mark.parametrize("kill_at", ["read", "submit a!2", "wait a!0", "fail", "write"])
def test_killed_inside_a_step(tmp_path: Path, kill_at: str) -> None:
    assert run(tmp_path, kill_at) == -9
    assert run(tmp_path, "never") == 0
    done = trace(tmp_path)
    assert set(done) - {"resumed"} == set(lines(JOBS))
    # The step it struck, and those of other children whose record it cut off, are done again; nothing that came before.
    assert done[kill_at] == 2
    assert all(done[line] <= 2 for line in lines(JOBS))
    if kill_at != "read":
        assert done["read"] == 1
    if kill_at in ("fail", "write"):
        assert all(done[line] == 1 for line in lines(JOBS) if line[0] in "sw" and line != "write")


@pytest.mark.parametrize("kill_at", ["submit a!0", "wait a!0", "write"])
def test_a_single_job_is_told_inside_its_run_and_goes_on_there_after_a_kill(tmp_path: Path, kill_at: str) -> None:
    assert run(tmp_path, kill_at, jobs=1) == -9
    assert list(workflows(tmp_path)) == ["the-run"]
    assert run(tmp_path, "never", jobs=1) == 0
    assert trace(tmp_path) == Counter([*lines(1), kill_at, "resumed"])
    assert [state for _, state in workflows(tmp_path).values()] == ["SUCCESS"]


def test_submitted_many_times_runs_once_and_knows_that_it_was_never_interrupted(tmp_path: Path) -> None:
    assert run(tmp_path, "never") == 0
    assert trace(tmp_path) == Counter(lines(JOBS))


@pytest.mark.parametrize("jobs", [1, JOBS])
def test_what_another_version_left_unfinished_is_told_again_from_the_top(tmp_path: Path, jobs: int) -> None:
    assert run(tmp_path, "wait a!0", jobs=jobs, version="1") == -9
    assert {version for version, _ in workflows(tmp_path).values()} == {"1"}
    (tmp_path / "trace").unlink()
    assert run(tmp_path, "never", jobs=jobs) == 0
    assert trace(tmp_path) == Counter(lines(jobs))
    assert {state for _, state in workflows(tmp_path).values()} == {"SUCCESS"}
    assert "1" not in {version for version, _ in workflows(tmp_path).values()}


THREADS = """
import asyncio, sys, time
from listener.runs.engine import WorkflowEngine, EngineSettings

class Nothing:
    async def run(self, request, steps): pass
    async def job(self, request, steps): pass

async def main():
    engine = WorkflowEngine(EngineSettings(f"sqlite:///{sys.argv[1]}/engine.sqlite", adopts=True), Nothing())
    await engine.start()
    queued = [asyncio.create_task(asyncio.to_thread(time.sleep, 0.1)) for _ in range(60)]
    closing = asyncio.create_task(engine.close())
    while not closing.done():
        await asyncio.to_thread(int)
    await closing
    await asyncio.gather(*queued)

asyncio.run(main())
"""


def test_whoever_needs_a_thread_while_it_closes_gets_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", THREADS, str(tmp_path)]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
