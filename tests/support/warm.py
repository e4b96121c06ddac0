"""Listeners that start quickly: forked from a process that has read all of gpudrop's modules, which takes a second of a
core, and a test run starts some hundreds. Apart from that they are what `python -m listener …` is.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["listener.cli", "listener.commands.serve"])


class WarmProcess:
    """What of `subprocess.Popen` these tests use. `stderr` is a file that is there."""

    def __init__(self, arguments: Sequence[str], *, environ: Mapping[str, str], cwd: Path, stderr: Path) -> None:
        self._process = _FORKS.Process(target=_listen, args=(arguments, dict(environ), str(cwd), str(stderr)))
        self._process.start()
        assert self._process.pid
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired("gpudrop", timeout)
        return code

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _listen(arguments: Sequence[str], environ: Mapping[str, str], cwd: str, stderr: str) -> None:
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    log = os.open(stderr, os.O_WRONLY)
    os.dup2(log, 2)
    os.close(log)
    sys.argv = ["gpudrop", *arguments]
    from listener.cli import main

    main()
