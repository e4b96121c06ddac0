"""What code that a stranger got to run in a worker on this machine finds closed."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_dispatch.local.child import WorkerProcess
from gpu_dispatch.local.settings import LocalSettings, child_command, child_environment
from support.deadlines import HANG_S

OWNER = """
import asyncio, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from listener.cli.run import hide_process
from support.media import Media
from support.places import local_place

async def main():
    folder = Path(sys.argv[2])
    async with local_place(folder, Media(folder), "odd") as place:
        status = await place.result(place.odd("spy"))
        print(status.result.payload.text)

hide_process()
asyncio.run(main())
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have none of this")


def test_a_worker_reads_nothing_of_its_owner_and_gains_no_rights(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[3])
    owner = subprocess.run(
        [sys.executable, "-c", OWNER, tests, str(tmp_path)],
        env={**os.environ, "A_SECRET": "s3cr3t"},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=True,
    )
    said = json.loads(owner.stdout)
    assert said.pop("gains") == "none"
    assert said.keys() == {"environ", "mem", "ptrace", "setuid", "core", "files"}
    assert "done" not in said.values(), said


async def test_the_real_worker_is_confined_as_the_odd_one_is(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    child = await WorkerProcess.start(
        child_command(LocalSettings(), folder), environ=child_environment({}, 1), work_root=folder
    )
    try:
        status = await asyncio.to_thread(Path(f"/proc/{child.pid}/status").read_text)
        limits = await asyncio.to_thread(Path(f"/proc/{child.pid}/limits").read_text)
    finally:
        await child.end()
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert found["NoNewPrivs"] == "1" and int(found["CapEff"], 16) & ~0b11111 == 0
    assert any(line.split()[:5] == ["Max", "core", "file", "size", "0"] for line in limits.splitlines())
