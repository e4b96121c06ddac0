"""Reads users' documents apart from the event loop.

Small ones are read in threads of their own, large ones in processes with limits of memory and time. A costly document
delays only documents that cost as much, and of these none in other folders.

Seconds of a core count, not of the clock: a busy machine refuses nobody. Where the system has no such limits the
deadline stands alone. Of documents from addresses, whose size is unknown, 16 are held at once, 14 of one folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import ParamSpec, TypeVar

from gpu_dispatch.fair_queue import Path
from listener.fairness import KEPT_FREE, FairGate
from listener.processes.call import CallLimits
from listener.processes.pool import CallLimitExceeded, ProcessPool
from manifests.errors import DocumentTooCostly

T = TypeVar("T")
P = ParamSpec("P")

SMALL = 8 * 2**10
"""Bytes up to which a document is read in milliseconds, whatever it holds: nearly all are smaller."""
LARGE = 64 * 2**10
"""Bytes from which on a document is read in a process of its own, which takes half a second of a core to start."""

REFERENCE_COST = 8
"""Bytes that take as long to read as planning with one more file takes."""

LIMITS = CallLimits(address_space=2**30, cpu_s=60)
"""The costliest documents take a tenth of the seconds and half of the memory."""
DEADLINE_S = 300.0
_THREADS = 2
_LARGE_AT_ONCE = 4
_UNKNOWN_AT_ONCE = 16
"""Documents whose size is unknown until they have arrived: slow ones must not delay others."""


class DocumentParsers:
    """Reads documents in threads and processes; without `environ` in threads alone. Belongs to one event loop."""

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        *,
        limits: CallLimits = LIMITS,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._small, self._others = (ThreadPoolExecutor(_THREADS, f"read {name}") for name in ("small", "others"))
        self._pool: ProcessPool | None = None
        if environ is not None:
            self._pool = ProcessPool(
                environ, limit_s=deadline_s, limits=limits, threads=self._others, work="reads a large document"
            )
        self._large, self._unknown = (
            FairGate(most, of_one=most - max(1, most // KEPT_FREE)) for most in (_LARGE_AT_ONCE, _UNKNOWN_AT_ONCE)
        )

    async def open(self) -> None:
        if self._pool:
            await self._pool.open()

    async def close(self) -> None:
        for threads in (self._small, self._others):
            threads.shutdown(wait=False, cancel_futures=True)
        if self._pool:
            await self._pool.close()

    @asynccontextmanager
    async def slot(self, size: int | None, turn: Path) -> AsyncGenerator[None]:
        """Holds room for documents of `size` bytes (None: unknown), so that memory never holds hundreds of them.

        `turn` is the path at which the caller waits for its turn.
        """
        gate = self._unknown if size is None else self._large if size >= LARGE else None
        async with gate.turn(turn) if gate else nullcontext():
            yield

    async def run(self, size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns what `function` makes of documents of `size` bytes.

        Raises its errors (see `ProcessPool.run`), DocumentTooCostly, and WorkerCrashed when its process is killed.
        """
        if size < LARGE or self._pool is None:
            return await self._in_thread(
                self._small if size <= SMALL else self._others, partial(function, *args, **kwargs)
            )
        try:
            return await self._pool.run(function, *args, **kwargs)
        except CallLimitExceeded as e:
            raise DocumentTooCostly(
                f"A document of {size:,} bytes cannot be read: the process that reads it {e}.",
                hint="Make it smaller, or divide it.",
            ) from e

    async def _in_thread(self, threads: Executor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)
