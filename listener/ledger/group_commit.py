"""Group commit: small writes that arrive during a transaction share the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

from listener.ledger.database import Database
from manifests.errors import StoreUnavailable

T = TypeVar("T")

_AT_ONCE = 500
"""Writes per transaction, at most, so that none waits much longer than some 50 ms for the next."""


_Works = list[Callable[[Any], Any]]
_Batch = tuple[_Works, asyncio.Task[list[Any]]]


class GroupCommit:
    """Runs writes in shared transactions, in the order of their calls.

    `begin` is called at the start of each transaction, and its result is passed to every write in it. The writes of a
    transaction fail together, so a write must not fail for a reason of its own.
    """

    def __init__(self, database: Database, begin: Callable[[sa.Connection], Any]) -> None:
        self._database = database
        self._begin = begin
        self._turn = asyncio.Lock()
        self._open: _Batch | None = None

    async def write(self, work: Callable[[Any], T]) -> T:
        """Returns the result of `work` once it is committed. After StoreUnavailable its outcome is unknown.

        Cancelling the call does not undo `work`.
        """
        batch, written = self._joined()
        place = len(batch)
        batch.append(work)
        try:
            return (await asyncio.shield(written))[place]
        except StoreUnavailable as e:
            raise StoreUnavailable(str(e), hint=e.info.hint) from e

    def post(self, work: Callable[[Any], object]) -> None:
        """Runs `work` without waiting for it; errors are ignored."""
        batch, written = self._joined()
        batch.append(work)
        written.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _joined(self) -> _Batch:
        """Returns the writes of the next transaction and the task that gives their results."""
        if self._open is None or len(self._open[0]) >= _AT_ONCE:
            works = list[Callable[[Any], Any]]()
            self._open = works, asyncio.create_task(self._write(works))
        return self._open

    async def _write(self, works: _Works) -> list[Any]:
        async with self._turn:
            if self._open and self._open[0] is works:
                self._open = None
            return await self._database.call(lambda: self._in_one(works))

    def _in_one(self, works: _Works) -> list[Any]:
        with self._database.begin() as db:
            shared = self._begin(db)
            return [work(shared) for work in works]
