"""The thread of a database, whose callers take fair turns."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from gpu_dispatch.fair_queue import FairQueue, Path

T = TypeVar("T")

FEW_AT_ONCE = 4
"""Calls about a few rows that run before a waiting call about many."""

_turn: ContextVar[Path] = ContextVar("turn", default=("",))

_Call = Callable[[], None]


@contextmanager
def in_turn(path: Path) -> Generator[None]:
    """Queues the calls made inside, and by tasks begun inside, in the turn of `path`."""
    before = _turn.set(path)
    try:
        yield
    finally:
        _turn.reset(before)


class FairThread:
    """Runs calls on one thread: those about a few rows in fair turns of their folders, those about many in order.

    So a run's many small steps wait neither for another folder's runs nor for a burst of new events.

    What comes in is recorded in more, smaller transactions.
    """

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._few: FairQueue[_Call] = FairQueue()
        self._many: deque[_Call] = deque()
        self._passed = 0

    def submit(self, work: Callable[[], T], *, many: bool) -> Future[T]:
        """Queues `work`. `many`: it concerns hundreds of rows."""
        future: Future[T] = Future()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                _execute(work, future)

        with self._lock:
            self._thread.submit(self._next)
            if many:
                self._many.append(call)
            else:
                self._few.push(_turn.get(), call)
        return future

    def close(self) -> None:
        """Ends the thread once what was submitted is done; does not wait for it."""
        self._thread.shutdown(wait=False)

    def _next(self) -> None:
        with self._lock:
            call = self._pop()
        call()

    def _pop(self) -> _Call:
        if self._many and (not self._few or self._passed >= FEW_AT_ONCE):
            self._passed = 0
            return self._many.popleft()
        self._passed += 1 if self._many else 0
        return self._few.pop()


def _execute(work: Callable[[], T], future: Future[T]) -> None:
    try:
        result = work()
    except BaseException as e:  # noqa: BLE001 - raised to whoever awaits the future
        future.set_exception(e)
    else:
        future.set_result(result)
