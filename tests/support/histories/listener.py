"""`gpudrop run` as a service manager runs it: started again when it ends by itself, and everything it said kept."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from support.deadlines import HANG_S
from support.scripts import ROOT
from support.warm import WarmProcess

_LOOK_S = 0.05
_RESTART_S = 0.5
_ERROR = re.compile(r"[A-Za-z_.]+(Error|Exception|Unavailable|Denied|Group)\b.*: ")

DEFECTS = frozenset({"run_defect", "attempt_defect", "look_defect", "run_end_not_written"})
"""Log entries that say: something that no class of errors knows has happened."""


@dataclass
class Listener:
    """`exits` are the codes of those that ended by themselves, `stopped` of those that were asked to."""

    folder: Path
    config: Mapping[str, Any]
    environ: Mapping[str, str]
    exits: list[int] = field(default_factory=list[int])
    stopped: list[int] = field(default_factory=list[int])
    logs: list[Path] = field(default_factory=list[Path])
    _process: WarmProcess | None = None

    def start(self) -> None:
        """Returns when it is ready."""
        deadline = time.monotonic() + HANG_S
        while not self._started(deadline):
            assert self._process
            self.exits.append(self._process.wait(HANG_S))
            time.sleep(_RESTART_S)

    def kill(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(HANG_S)

    def stop(self) -> None:
        assert self._process
        self._process.terminate()
        self.stopped.append(self._process.wait(HANG_S))

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            self.kill()

    def _started(self, deadline: float) -> bool:
        """Whether it came to be ready; it has ended otherwise."""
        file = self.folder / "config.yaml"
        file.write_text(yaml.safe_dump({**self.config, "log": {"format": "json", "level": "info"}}))
        log = self.folder / f"log-{len(self.logs)}.jsonl"
        log.touch()
        self.logs.append(log)
        environ = {**os.environ, "PYTHONPATH": str(ROOT), **self.environ}
        self._process = WarmProcess(["run", "--config", str(file)], environ=environ, cwd=self.folder, stderr=log)
        while '"event": "ready"' not in log.read_text():
            assert time.monotonic() < deadline, f"It never became ready:\n{log.read_text()[-4000:]}"
            if self._process.poll() is not None:
                return False
            time.sleep(_LOOK_S)
        return True

    def lines(self) -> Iterator[str]:
        for log in self.logs:
            yield from log.read_text(errors="replace").splitlines()

    def defects(self) -> list[str]:
        """What it said that it may never say, whatever goes wrong around it."""
        found: list[str] = []
        for line in self.lines():
            entry = _entry(line)
            event = str(entry.get("event", ""))
            if event in DEFECTS or entry.get("code") == "worker_error" or "Traceback" in line:
                said = _last_words(str(entry.get("exception", ""))) or entry.get("error", "")
                found.append(f"the log says {event}, {entry.get('key', '')}: {said}"[:500])
        return found + [f"an orderly stop ended with {code}" for code in self.stopped if code]


def _last_words(exception: str) -> str:
    """The line of a traceback that names the last error."""
    words = [line.strip(" |+-") for line in exception.splitlines()]
    return next((line for line in reversed(words) if _ERROR.match(line)), "")


def _entry(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {"event": line}
    return found if isinstance(found, dict) else {}
