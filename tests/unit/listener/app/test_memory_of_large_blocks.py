"""A large block that is free goes back to the system, though something that is still needed lies above it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.deadlines import HANG_S
from support.scripts import ROOT

MB = 2**20

PROGRAM = """
from pathlib import Path
from resource import getpagesize
from listener.app.app import keep_large_blocks_apart

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()

told = keep_large_blocks_apart()
first = b"x" * (30 * 2**20)
del first
before = resident()
large = [b"x" * (20 * 2**20) for _ in range(5)]
above = [b"y" * 4000 for _ in range(100)]
full = resident()
del large
print(int(told), full - before, resident() - before, len(above))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux tells what a process has now.")
def test_large_blocks_go_back_when_they_are_free() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=HANG_S, check=True
    )
    told, grown, kept, _ = map(int, done.stdout.split())
    if not told:
        pytest.skip("The C library here lets itself be told nothing.")
    assert grown > 90 * MB
    assert kept < 10 * MB
