"""Triggers are reloaded where the system has no notifications to spare, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.deadlines import HANG_S

# Two file handles are too few for the system's notifications, which need three, and enough to read a file.
OUT_OF_HANDLES = """
import asyncio, os, resource, sys
from pathlib import Path
from listener.config.loader import follow_config

def used(triggers):
    print("used", *(trigger.name for trigger in triggers), flush=True)
    os._exit(0)

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    handles = []
    try:
        while True:
            handles.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for handle in handles[-2:]:
            os.close(handle)
    await follow_config(Path(sys.argv[1]), (), used)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_without_watches_to_spare_the_file_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("{}")
    command = [sys.executable, "-c", OUT_OF_HANDLES, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert "used manifests" in done.stdout, done.stdout + done.stderr
    assert "config_polled" in done.stdout
