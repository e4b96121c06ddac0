"""A process that has held much for a while is small again, though something it still needs lies above the rest."""

from __future__ import annotations

import subprocess
import sys

import pytest

from listener.memory import trimmer
from support.scripts import ROOT

HANG_S = 60.0
HOLE = 200 * 2**20

PROGRAM = """
import asyncio, sys
from listener.memory import give_memory_back, resident, trimmer

async def main():
    before = resident()
    keeping = asyncio.create_task(give_memory_back(trimmer(), every_s=0.05))
    await asyncio.sleep(0)
    held = [bytes(4000) for _ in range({hole} // 4000)]
    pinned = held[-1], held[len(held) // 2]
    full = resident()
    del held
    while resident() - before > {hole} // 4:
        await asyncio.sleep(0.05)
    keeping.cancel()
    print(full - before, len(pinned))

asyncio.run(main())
"""


@pytest.mark.skipif(trimmer() is None, reason="The C library here has nothing to be asked for.")
def test_what_is_freed_goes_back_to_the_system() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(hole=HOLE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=True,
    )
    assert int(done.stdout.split()[0]) > HOLE // 2
