"""Listeners and other commands that start quickly: forked from a process that has read all of gpudrop's modules, which
takes a second of a core, and a test run starts some hundreds. Apart from that they are `python -m listener …`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["listener.cli.main", "listener.cli.run"])


class WarmProcess:
    """What of `subprocess.Popen` these tests use. `stderr` and `stdout` are files that are there."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environ: Mapping[str, str],
        cwd: Path,
        stderr: Path,
        stdout: Path | None = None,
    ) -> None:
        files = {2: str(stderr)} | ({1: str(stdout)} if stdout else {})
        self._process = _FORKS.Process(target=_listen, args=(arguments, dict(environ), str(cwd), files))
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


def warm_command(
    arguments: Sequence[str], *, environ: Mapping[str, str], cwd: Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with its outputs captured."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        out.touch()
        err.touch()
        process = WarmProcess(arguments, environ=environ, cwd=cwd, stderr=err, stdout=out)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(["gpudrop", *arguments], code, out.read_text(), err.read_text())


def _listen(arguments: Sequence[str], environ: Mapping[str, str], cwd: str, files: Mapping[int, str]) -> None:
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    for number, path in files.items():
        file = os.open(path, os.O_WRONLY)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["gpudrop", *arguments]
    from listener.cli.main import main

    main()
