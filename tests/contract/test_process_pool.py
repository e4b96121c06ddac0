"""Calls in processes of their own: what comes back, and what comes of processes that do not come back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest

from listener.processes import call as process_call
from listener.processes.pool import Defect, ProcessPool
from manifests.errors import NoSpeech, WorkerCrashed
from support import process_calls
from support.deadlines import HANG_S
from support.scripts import ROOT

TESTS = os.pathsep.join((str(ROOT), str(ROOT / "tests")))

Made = Callable[..., Awaitable[ProcessPool]]

OWNER = """
import asyncio, os, sys
from pathlib import Path
from listener.processes.pool import ProcessPool
from support.process_calls import hanging

async def main():
    pool = ProcessPool(os.environ, parent=Path(sys.argv[1]))
    await pool.open()
    await pool.run(hanging, Path(sys.argv[2]))

asyncio.run(main())
"""


@pytest.fixture
async def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Made]:
    """`pool(limit_s)`: an open one, whose processes find the tests' modules."""
    monkeypatch.setenv("PYTHONPATH", TESTS)
    monkeypatch.setenv("GPUDROP_S3_SECRET_KEY", "hidden")
    async with AsyncExitStack() as stack:

        async def made(limit_s: float = HANG_S) -> ProcessPool:
            pool = ProcessPool(os.environ, parent=tmp_path / "work", limit_s=limit_s, pauses_s=(0.0, 0.0))
            await pool.open()
            stack.push_async_callback(pool.close)
            return pool

        yield made
    assert not list((tmp_path / "work").iterdir())


async def test_a_call_is_answered_from_another_process(pool: Made) -> None:
    assert await (await pool()).run(process_calls.pid) not in (os.getpid(), None)


async def test_errors_come_back_as_what_they_are(pool: Made) -> None:
    opened = await pool()
    with pytest.raises(NoSpeech) as told:
        await opened.run(process_calls.refusing)
    assert (told.value.info.message, told.value.info.where) == ("Nobody says a word.", "audio")
    with pytest.raises(Defect, match="KeyError: 'a defect'"):
        await opened.run(process_calls.failing)


async def test_a_process_that_is_killed_is_tried_again(pool: Made, tmp_path: Path) -> None:
    assert await (await pool()).run(process_calls.dying, 2, tmp_path / "marks") == 3


async def test_processes_that_are_killed_every_time_are_told_of(pool: Made, tmp_path: Path) -> None:
    with pytest.raises(WorkerCrashed, match=r"ended with -9. the last words") as told:
        await (await pool()).run(process_calls.dying, 99, tmp_path / "marks")
    assert not told.value.retryable
    assert len((tmp_path / "marks").read_text().splitlines()) == 3


async def test_processes_that_hang_are_ended_and_told_of(pool: Made, tmp_path: Path) -> None:
    with pytest.raises(WorkerCrashed, match="was not done after 3 s"):
        await (await pool(3.0)).run(process_calls.hanging, tmp_path / "marks")
    assert not any(psutil.pid_exists(int(pid)) for pid in (tmp_path / "marks").read_text().split())


async def test_a_call_that_is_cancelled_leaves_no_process(pool: Made, tmp_path: Path) -> None:
    call = asyncio.create_task((await pool()).run(process_calls.hanging, tmp_path / "marks"))
    pid = await asyncio.to_thread(_begun, tmp_path / "marks")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not psutil.pid_exists(pid)


async def test_what_no_other_process_knows_is_done_in_this_one(pool: Made) -> None:
    assert await (await pool()).run(lambda: os.getpid()) == os.getpid()


async def test_a_module_that_another_process_does_not_find_is_no_hindrance(
    pool: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert await (await pool()).run(process_calls.pid) == os.getpid()


async def test_no_key_is_handed_on(pool: Made) -> None:
    assert "hidden" not in (await (await pool()).run(process_calls.environment)).values()


def test_a_process_ends_with_its_owner(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    command = [sys.executable, "-c", OWNER, str(tmp_path / "work"), str(marks)]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": TESTS}) as owner:
        pid = _begun(marks)
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + HANG_S
    while psutil.pid_exists(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _begun(marks: Path) -> int:
    """The process that has begun, once it has."""
    deadline = time.monotonic() + HANG_S
    while not (marks.exists() and marks.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(marks.read_text().split()[0])


def test_an_outcome_that_somebody_else_may_have_made_is_not_read(tmp_path: Path) -> None:
    call = tmp_path / "call"
    process_call.write_call(call, ["a", b"b"])
    assert process_call.read_call(call) == ["a", b"b"]
    (tmp_path / "link").symlink_to(call)
    with pytest.raises(OSError, match="link"):
        process_call.read_call(tmp_path / "link")
    (tmp_path / "second").hardlink_to(call)
    with pytest.raises(PermissionError, match="not written by this program"):
        process_call.read_call(call)
