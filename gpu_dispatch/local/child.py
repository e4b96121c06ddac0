"""A worker's child process as the backend sees it, and the scratch folder of a backend's children."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import shutil
import signal
import tempfile
from asyncio.subprocess import Process, SubprocessStreamProtocol
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from gpu_dispatch.local.cgroups import Breach, Cgroup
from gpu_dispatch.protocol import MAX_LINE, Order, ReadyReport, WorkerReport, order_line, report_from_line
from manifests.errors import EngineUnavailable
from manifests.text import plain_text

_LOG = logging.getLogger("gpu_dispatch.worker")

START_S = 120.0
"""Longest start of a child, in seconds: a cold disk takes long to read a large library."""
_EXIT_S = 2.0
_PASSING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC})
_TAIL_LINES = 12
_LONGEST_LOG_LINE = 2000
_LONG = 2**18
"""Bytes of a line above which it is parsed on a thread."""


class WorkerProcess:
    """A child process with its process group. Every one has to be ended with `end`."""

    def __init__(
        self, process: Process, transport: asyncio.SubprocessTransport, work_root: Path, group: Cgroup | None
    ) -> None:
        self._process = process
        self._transport = transport
        self._work_root = work_root
        self._group = group
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._ending: asyncio.Task[None] | None = None
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(
        cls, command: Sequence[str], *, environ: Mapping[str, str], work_root: Path, group: Cgroup | None = None
    ) -> Self:
        """Starts a child in `group`, which ends with it; returns once it takes jobs. Raises EngineUnavailable."""
        try:
            await asyncio.to_thread(work_root.mkdir, mode=0o700, parents=True, exist_ok=True)
            # asyncio.create_subprocess_exec does not give the transport out, and `end` has to close it.
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.subprocess_exec(
                lambda: SubprocessStreamProtocol(MAX_LINE, loop),
                *(group.command_in_group(command) if group else command),
                env=dict(environ),
                cwd=work_root,
                start_new_session=True,
            )
        except BaseException as e:
            if group:
                group.remove()  # does not block: nothing runs in it
            if isinstance(e, OSError):
                raise _cannot_start(f"{command[0]}: {e.strerror}", retryable=e.errno in _PASSING) from e
            raise
        child = cls(Process(transport, protocol, loop), transport, work_root, group)
        ready, late = False, True
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(START_S):
                    ready = isinstance(await child.next(), ReadyReport)
                    late = False
        finally:
            if not ready:
                await child.end()
        if not ready:
            raise _cannot_start(
                f"it was not ready after {START_S:g} s" if late else child.last_words or "it ended at once"
            )
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def breach(self) -> Breach | None:
        """The limit that the kernel has enforced on it."""
        return self._group.breach() if self._group else None

    @property
    def work_root(self) -> Path:
        return self._work_root

    @property
    def last_words(self) -> str:
        """The last lines of its stderr."""
        return "\n".join(self._tail)

    async def send(self, order: Order) -> None:
        """Sends `order`. A dead child is no error here: `next` reports it."""
        assert self._process.stdin is not None
        with suppress(ConnectionError):
            self._process.stdin.write(order_line(order))
            await self._process.stdin.drain()

    async def next(self) -> WorkerReport | None:
        """Returns its next report; None when it has ended or sent an unreadable line."""
        assert self._process.stdout is not None
        try:
            line = await self._process.stdout.readline()
            if not line.endswith(b"\n"):
                return None
            return await asyncio.to_thread(report_from_line, line) if len(line) > _LONG else report_from_line(line)
        except (ValidationError, ValueError) as e:
            self._tail.append(f"unreadable report: {type(e).__name__}")
            return None

    def kill(self) -> None:
        """Kills its process group and its control group. The process group's id is not reused while a member lives."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._group:
            self._group.kill()

    async def end(self) -> None:
        """Kills what is left, waits for it and removes the folder. Every caller waits for this, even if cancelled."""
        if self._ending is None:
            self.kill()
            self._ending = asyncio.create_task(self._end())
            # Even when the event loop's end cuts `_end` short: the child's own children may hold the pipes open.
            self._ending.add_done_callback(lambda _: self._transport.close())
        try:
            await asyncio.shield(self._ending)
        except asyncio.CancelledError:
            await asyncio.wait({self._ending})
            raise

    async def _end(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_S):
                await self._process.wait()
                await self._listening
        self._listening.cancel()
        if self._group:
            await asyncio.to_thread(self._group.remove)
        await asyncio.to_thread(shutil.rmtree, self._work_root, ignore_errors=True)

    async def _listen(self) -> None:
        """Logs its stderr line by line; progress bars end their lines with a carriage return."""
        assert self._process.stderr is not None
        held = ""
        while data := await self._process.stderr.read(2**16):
            *lines, held = (held + data.decode("utf-8", "replace")).replace("\r", "\n").split("\n")
            for line in lines:
                self._note(line)
            if len(held) > _LONGEST_LOG_LINE:
                self._note(held)
                held = ""
        self._note(held)

    def _note(self, line: str) -> None:
        text = plain_text(line, _LONGEST_LOG_LINE)
        if text:
            self._tail.append(text)
            _LOG.info("%s", text, extra={"worker_pid": self._process.pid})


def _cannot_start(why: str, *, retryable: bool = False) -> EngineUnavailable:
    return EngineUnavailable(
        f"The worker on this machine does not start: {why.splitlines()[-1]}",
        hint="Check that gpudrop is installed completely; the log holds the worker's own words.",
        retryable=retryable,
    )


_PREFIX = "gpudrop-work-"
_LOCK = "lock"


class ScratchFolder:
    """A folder below `parent` that its owner keeps locked until it closes or dies."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        # The lock gets its name once it is held: in between, another process would sweep the folder away.
        unnamed = self.path / f"{_LOCK}.new"
        self._lock = os.open(unnamed, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self.path / _LOCK)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _sweep(parent: Path) -> None:
    """Removes the scratch folders that are not locked. One without a lock file is just being made."""
    for scratch in parent.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(scratch / _LOCK, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(scratch, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)
