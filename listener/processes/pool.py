"""Runs functions in processes of their own, whose memory goes back to the system when they end.

A process that hangs or is killed is started again, and reported when every attempt has failed.

Processes are started anew, not forked: the listener has threads.
"""

from __future__ import annotations

import asyncio
import pickle
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import structlog

from gpu_dispatch.local.child import ScratchFolder
from gpu_dispatch.local.settings import child_environment
from listener.processes import call as process_call
from listener.processes.call import CallLimits
from manifests.errors import GpuDropError, WorkerCrashed

T = TypeVar("T")
P = ParamSpec("P")

WORTH_A_PROCESS = 2 * 2**20
"""Bytes of JSON from which on a result is handled in a process of its own: as objects these take about 20 MB. Less is
not worth the half second of a core that a process takes to start.
"""

AT_ONCE = 2
"""Processes at a time: each takes some hundred megabytes and a core."""

ATTEMPT_S = 600.0
"""Seconds for one attempt. The transcript of a day takes a twentieth of it on a busy machine."""

PAUSES_S = (1.0, 10.0)
"""Seconds before the second attempt and the third: there may be enough memory by then."""

_LAST_WORDS = 500

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.process_pool")


class _NotPortable(Exception):
    """The function or an argument cannot be passed to another process."""


class Defect(Exception):
    """An error in another process that no class covers; its text is the traceback."""


class CallLimitExceeded(Exception):
    """A call took more than its limits allow; its text names the limit, as a clause after "the process"."""


class ProcessPool:
    """Starts a process for each call, which inherits from `environ` nothing secret. Belongs to one event loop."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        parent: Path | None = None,
        limit_s: float = ATTEMPT_S,
        limits: CallLimits | None = None,
        threads: Executor | None = None,
        work: str = "handles a large result",
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        """`parent` is where private folders lie; None: the system's folder for temporary files.

        With `limits`, a call that exceeds them or `limit_s` is not tried again. `threads` run what cannot be passed to
        a process; None: the event loop's own. `work` says in errors what the processes do. `pauses_s` are the seconds
        between attempts, of which there is one more.
        """
        self._pauses_s = tuple(pauses_s)
        self._limits = limits
        self._threads = threads
        self._work = work
        self._environ = child_environment(environ, threads=1)
        self._parent = parent or Path(tempfile.gettempdir())
        self._limit_s = limit_s
        self._free = asyncio.Semaphore(AT_ONCE)
        self._scratch: ScratchFolder | None = None

    async def open(self) -> None:
        self._scratch = await asyncio.to_thread(ScratchFolder, self._parent)

    async def close(self) -> None:
        room, self._scratch = self._scratch, None
        if room:
            await asyncio.to_thread(room.close)

    @asynccontextmanager
    async def folder(self) -> AsyncGenerator[Path]:
        """Yields a private folder; it is removed afterwards, or by the next listener when this one is killed."""
        if self._scratch is None:
            raise RuntimeError("the pool is not open")
        try:
            folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._scratch.path))
        except OSError as e:
            raise self._failed(f"has no folder: {e}") from e
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns the result of `function`. It runs in a thread here where it or an argument cannot be passed on.

        Raises its GpuDropErrors, Defect for its other errors, CallLimitExceeded, and WorkerCrashed when its process
        ends early or hangs at every attempt.
        """
        try:
            return await self._run_in_process(function, (function, args, kwargs))
        except _NotPortable as e:
            log.info("runs_in_a_thread", function=function.__name__, why=str(e)[-_LAST_WORDS:])
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, partial(function, *args, **kwargs))

    async def _run_in_process(self, function: Callable[..., T], call: object) -> T:
        why = ""
        async with self._free:
            for pause_s in (0.0, *self._pauses_s):
                await asyncio.sleep(pause_s)
                async with self.folder() as folder:
                    why = await self._attempt(folder, call)
                    if not why:
                        return await asyncio.to_thread(_result, folder)
                log.warning("process_failed", function=function.__name__, why=why)
        raise self._failed(why)

    async def _attempt(self, folder: Path, call: object) -> str:
        """Runs one process to its end; returns why there is no outcome in `folder`, "" when there is one."""
        try:
            await asyncio.to_thread(_write_call, folder, call)
            with (folder / "log").open("wb") as words:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", process_call.__name__, str(folder), *self._limit_arguments()),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=words,
                    stderr=words,
                    env=self._environ,
                    cwd=folder,
                )
        except OSError as e:
            return f"does not start: {e}"
        try:
            async with asyncio.timeout(self._limit_s):
                await process.wait()
        except TimeoutError:
            return self._exceeded(f"was not done after {self._limit_s:g} s")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == 0:
            return ""
        if self._limits and process.returncode == -signal.SIGXCPU:
            return self._exceeded(f"was not done after {self._limits.cpu_s} s of a core")
        last_words = (folder / "log").read_bytes()[-_LAST_WORDS:].decode("utf-8", "replace").strip()
        return f"ended with {process.returncode}. {last_words}".strip()

    def _limit_arguments(self) -> tuple[str, ...]:
        return (str(self._limits.address_space), str(self._limits.cpu_s)) if self._limits else ()

    def _exceeded(self, why: str) -> str:
        """Returns `why`; raises CallLimitExceeded where calls have limits."""
        if self._limits:
            raise CallLimitExceeded(why)
        return why

    def _failed(self, why: str) -> WorkerCrashed:
        """Returns the error after the last attempt. It is not retryable, because a retry would repeat paid work."""
        return WorkerCrashed(
            f"A process of the listener's that {self._work} {why}",
            hint="The listener's machine may lack memory or disk: give it more, then redrive.",
            retryable=False,
        )


def _write_call(folder: Path, call: object) -> None:
    try:
        process_call.write_call(folder / "call", call)
    except (pickle.PicklingError, AttributeError, TypeError) as e:
        raise _NotPortable(str(e)) from e


def _result(folder: Path) -> Any:
    what, content = process_call.read_call(folder / "outcome")
    match what:
        case "value":
            return content
        case "error":
            raise GpuDropError.from_info(content)
        case "not_portable":
            raise _NotPortable(content)
        case "no_memory":
            raise CallLimitExceeded("needs more memory than it may have")
        case _:
            raise Defect(content)
