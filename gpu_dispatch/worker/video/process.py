"""Runs one child process with bounded memory and a deadline; it cannot outlive its caller."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gpu_dispatch.transfer.files import inherited
from gpu_dispatch.worker.confinement import set_limits
from manifests.errors import EngineUnavailable, TaskTimedOut

TAIL_LINES = 200
MAX_LINE_BYTES = 2_000
_CHUNK = 1 << 16

Feed = Callable[[BinaryIO], None]
"""Writes the child's standard input, in a separate thread; it blocks while the child does not read."""


@dataclass(frozen=True, slots=True)
class Exit:
    code: int
    stderr: tuple[str, ...]
    """The last lines only."""


class OutputLineSplitter:
    """Splits chunks of bytes into lines of text; a line is cut to MAX_LINE_BYTES."""

    def __init__(self, sink: Callable[[str], None]) -> None:
        self._sink = sink
        self._rest = b""

    def __call__(self, chunk: bytes) -> None:
        *lines, rest = (self._rest + chunk).replace(b"\r", b"\n").split(b"\n")
        self._rest = rest[:MAX_LINE_BYTES]
        for line in lines:
            self._sink(line[:MAX_LINE_BYTES].decode("utf-8", "replace"))

    def finish(self) -> None:
        if self._rest:
            self._sink(self._rest.decode("utf-8", "replace"))
            self._rest = b""


async def run_process(
    argv: Sequence[str],
    *,
    timeout_s: float,
    on_stdout: Callable[[bytes], None],
    on_stderr: Callable[[str], None] | None = None,
    feed: Feed | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    largest: int = 0,
) -> Exit:
    """Runs `argv` to its end in this process's group, so that killing the group ends it, too.

    Cancellation and what `on_stdout`, `on_stderr` or `feed` raise kill the child and are raised once it has ended.
    The input ends when `feed` returns; a child that stops reading is no error. `largest` is in bytes of a file that the
    child writes, 0 for no limit. Raises TaskTimedOut, and EngineUnavailable when `argv` cannot be started.
    """
    process, write_end = await _start(argv, cwd, env, feeding=feed is not None)
    assert process.stdout and process.stderr
    set_limits(process.pid, largest, timeout_s)
    tail: deque[str] = deque(maxlen=TAIL_LINES)

    def keep(line: str) -> None:
        tail.append(line)
        if on_stderr:
            on_stderr(line)

    stderr = OutputLineSplitter(keep)
    tasks: list[asyncio.Future[None]] = [
        asyncio.ensure_future(_drain(process.stdout, on_stdout)),
        asyncio.ensure_future(_drain(process.stderr, stderr)),
    ]
    if feed and write_end is not None:
        tasks.append(asyncio.get_running_loop().run_in_executor(None, _feed, feed, write_end))
    try:
        async with asyncio.timeout(timeout_s):
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
            code = await process.wait()
    except TimeoutError as e:
        raise TaskTimedOut(
            f"{Path(argv[0]).name} did not end within {timeout_s:.0f} seconds.",
            hint="Cut the media into shorter pieces, or raise the time limit.",
        ) from e
    finally:
        await _end(process, tasks)
    stderr.finish()
    return Exit(code, tuple(tail))


async def _start(
    argv: Sequence[str], cwd: Path | None, env: Mapping[str, str] | None, *, feeding: bool
) -> tuple[asyncio.subprocess.Process, int | None]:
    """Starts the child; returns it and, when it is fed, the write end of its standard input."""
    read_end, write_end = os.pipe() if feeding else (None, None)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL if read_end is None else read_end,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd,
            env=env,
            pass_fds=inherited(),
        )
    except BaseException as e:
        if write_end is not None:
            os.close(write_end)
        if isinstance(e, OSError):
            raise EngineUnavailable(
                f"{Path(argv[0]).name} could not be started: {e.strerror or e}.",
                hint="Check that the program is there, may be run, and was built for this machine.",
            ) from e
        raise
    finally:
        if read_end is not None:
            os.close(read_end)
    return process, write_end


async def _drain(stream: asyncio.StreamReader, sink: Callable[[bytes], None]) -> None:
    while chunk := await stream.read(_CHUNK):
        sink(chunk)


def _feed(feed: Feed, fd: int) -> None:
    with suppress(BrokenPipeError), os.fdopen(fd, "wb") as pipe:
        feed(pipe)


async def _end(process: asyncio.subprocess.Process, tasks: Sequence[asyncio.Future[None]]) -> None:
    """Kills a running child and reads both pipes to their end, which lets the event loop close them."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    await asyncio.gather(*tasks, return_exceptions=True)
    for stream in (process.stdout, process.stderr):
        if stream:
            await _drain(stream, lambda _: None)
    await process.wait()
