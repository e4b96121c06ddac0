"""The tasks in which runs and jobs are told, so that they can be let go before anything they use is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


class WorkflowTasks:
    """A task is here from the beginning of its story until the engine has recorded how that ended."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._told: set[asyncio.Task[Any]] = set()
        self._closing = False

    @contextmanager
    def one_more(self) -> Generator[None]:
        """The current task tells a story inside. Raises CancelledError once they are let go."""
        if self._closing:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        if task is None:
            yield
            return
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._told.add(task)
        try:
            yield
        finally:
            self._told.discard(task)

    async def let_go(self, timeout_s: float) -> None:
        """Cancels every story; one that is over is recorded first. Waits for them, `timeout_s` at most."""
        self._closing = True
        for task in self._told:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
