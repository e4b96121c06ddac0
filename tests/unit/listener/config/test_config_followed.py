"""Triggers are reloaded where the system has no notifications to spare, too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.handles import run_program

# Two file handles are too few for the system's notifications, which need three, and enough to read a file.
OUT_OF_HANDLES = """
import asyncio, os, sys
from pathlib import Path
from listener.config.loader import follow_config

def used(triggers):
    print("used", *(trigger.name for trigger in triggers), flush=True)
    os._exit(0)

async def main():
    use_up_handles()
    await follow_config(Path(sys.argv[1]), (), used)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_without_watches_to_spare_the_file_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("{}")
    told = run_program(OUT_OF_HANDLES, file)
    assert "used manifests" in told, told
    assert "config_polled" in told
