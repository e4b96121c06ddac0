"""Listeners that share a database: processes that take places in it, and what they wrote down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psycopg

from support.deadlines import HANG_S
from support.scripts import ROOT

T = TypeVar("T")


@dataclass(frozen=True)
class Note:
    """What a process wrote. `at` is the machine's monotonic time."""

    at: float
    name: str
    member: str
    what: str
    sure: bool = False
    since: float = 0.0
    found: tuple[str, ...] = ()


@dataclass(frozen=True)
class Span:
    """`who` was sure of `what` from one moment to the other."""

    who: str
    what: str
    start: float
    end: float


@dataclass
class Listeners:
    """Processes on one database, each with a name that is never used again."""

    url: str
    journal: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])

    def start(self, name: str, *, look: bool = False) -> Note:
        """Starts one and waits until it has its place."""
        self.launch(name, look=look)
        return self.until(lambda: self.last(name, "open"))

    def launch(self, name: str, *, look: bool = False) -> None:
        assert name not in self.processes
        program = Path(__file__).with_name("cluster_program.py")
        arguments = [self.url, str(self.journal), name, *(["look"] if look else [])]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.processes[name] = subprocess.Popen([sys.executable, str(program), *arguments], env=environ)

    def kill(self, name: str) -> None:
        self.send(name, signal.SIGKILL)
        self.processes[name].wait(HANG_S)

    def send(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)

    def notes(self) -> list[Note]:
        """In the order of their times; a line that is being written now is left out."""
        if not self.journal.exists():
            return []
        lines = [line for line in self.journal.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        found = (json.loads(line) for line in lines)
        return sorted((Note(**{**n, "found": tuple(n.get("found", ()))}) for n in found), key=lambda n: n.at)

    def last(self, name: str, what: str) -> Note | None:
        return next((n for n in reversed(self.notes()) if (n.name, n.what) == (name, what)), None)

    def leader(self, *, after: float = 0.0) -> str | None:
        """Who said last that it is sure to lead, later than `after`."""
        return next((n.name for n in reversed(self.notes()) if n.what == "tick" and n.sure and n.at > after), None)

    def until(self, found: Callable[[], T | None]) -> T:
        deadline = time.monotonic() + HANG_S
        while not (value := found()):
            assert time.monotonic() < deadline, [n for n in self.notes() if n.what != "tick"]
            time.sleep(0.02)
        return value

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(HANG_S)

    def led(self) -> list[Span]:
        """One span each time somebody led: from the first to the last moment at which it was sure."""
        return _spans([n for n in self.notes() if n.what in ("lead", "tick")])

    def held(self) -> list[Span]:
        """One span for each orphan each time somebody held it, and was sure at its end."""
        return [Span(n.name, m, n.since, n.at) for n in self.notes() if n.what == "held" for m in n.found]


def _spans(notes: list[Note]) -> list[Span]:
    open_: dict[str, tuple[float, float]] = {}
    spans: list[Span] = []
    for note in notes:
        if note.what == "lead" and note.name in open_:
            spans.append(Span(note.name, "role", *open_.pop(note.name)))
        elif note.sure:
            start, _ = open_.get(note.name, (note.at, note.at))
            open_[note.name] = (start, note.at)
    return [*spans, *(Span(name, "role", *times) for name, times in open_.items())]


def overlaps(spans: list[Span]) -> list[tuple[Span, Span]]:
    """Pairs that two processes held at one time."""
    found: list[tuple[Span, Span]] = []
    ordered = sorted(spans, key=lambda s: s.start)
    for i, first in enumerate(ordered):
        for second in ordered[i + 1 :]:
            if second.start > first.end:
                break
            if second.what == first.what and second.who != first.who:
                found.append((first, second))
    return found


def sessions_of(url: str, place: int) -> list[int]:
    """The server's processes that hold the lock of a place."""
    with psycopg.connect(url, autocommit=True) as db:
        rows = db.execute(
            "SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database WHERE locktype = 'advisory' AND granted"
            " AND datname = current_database() AND classid = %s AND objid = %s",
            (0x67707564, place),
        ).fetchall()
    return [row[0] for row in rows]
