"""A process that has used up its open files, for programs that tests run: inotify then gives it no watch."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from support.deadlines import HANG_S

SPARE = 2
"""Handles that are left: the program's own work needs some."""


def use_up_handles(limit: int = 64) -> None:
    """Limits this process to `limit` handles and takes all but SPARE of them."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    handles: list[int] = []
    try:
        while True:
            handles.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for handle in handles[-SPARE:]:
            os.close(handle)


def run_program(source: str, path: Path) -> str:
    """Runs a program that may call `use_up_handles`, with `path` as its argument; returns what it wrote."""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", f"from support.handles import use_up_handles\n{source}", str(path)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=HANG_S, check=False)
    return done.stdout + done.stderr
