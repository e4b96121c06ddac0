"""The advisory locks of one connection to PostgreSQL, and how long they are certainly held."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from listener.cluster.connection import HINT, Keepalive, PostgresConnection, brief
from manifests.errors import StoreUnavailable

_JOIN_S = 0.5


@dataclass(frozen=True, slots=True)
class AdvisoryLock:
    """An advisory lock of the two-key kind; both keys are signed 32-bit numbers."""

    space: int
    key: int


class LockSessionEnded(StoreUnavailable):
    """The locks of a session are not certainly held."""


class LockSession:
    """Holds locks. Ends for good at the first doubt: `ended` is set, and every call then raises LockSessionEnded."""

    def __init__(self, connection: PostgresConnection, keepalive: Keepalive) -> None:
        self.ended = asyncio.Event()
        self.why = ""
        self._connection = connection
        self._keepalive = keepalive
        self._loop = asyncio.get_running_loop()
        self._sure_until = connection.asked_at + keepalive.lease_s
        self._alarm = self._loop.call_at(self._sure_until, self._overdue)
        self._queries: asyncio.Queue[_Query] = asyncio.Queue()
        self._asking = False
        self._held: set[AdvisoryLock] = set()
        self._uses: set[asyncio.Timeout] = set()
        self._unused = asyncio.Event()
        self._unused.set()
        # psycopg reads only during a query; a copy of the socket shows at once when the server hangs up in between.
        self._socket = socket.socket(fileno=os.dup(connection.connection.fileno()))
        self._loop.add_reader(self._socket, self._on_readable)
        self._talking = asyncio.create_task(self._run_queries())

    @property
    def certain(self) -> bool:
        return not self.ended.is_set() and self._loop.time() < self._sure_until

    async def try_lock(self, lock: AdvisoryLock) -> bool:
        """Returns whether the lock is newly held; False also for a second user in this process."""
        if lock in self._held:
            return False
        self._held.add(lock)
        got = False
        try:
            row = await self.ask(_LOCK, lock.space, lock.key)
            got = bool(row and row[0])
        except asyncio.CancelledError:
            self.unlock(lock)  # it may have been granted
            raise
        finally:
            if not got:
                self._held.discard(lock)
        return got

    def unlock(self, lock: AdvisoryLock) -> None:
        """Releases a lock soon, before any later query. A lock that cannot be released ends with the session."""
        self._held.discard(lock)
        self._queries.put_nowait(_Query(_UNLOCK, (lock.space, lock.key), self._loop.create_future()))

    async def ask(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        """Returns the first row of the result. A query may be executed although its caller is cancelled."""
        if not self.certain:
            raise self._error()
        ask = _Query(sql, values, self._loop.create_future())
        self._queries.put_nowait(ask)
        return await ask.answer

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[None]:
        """Cancels its body when the session ends, and then raises LockSessionEnded."""
        if not self.certain:
            raise self._error()
        timeout = asyncio.timeout(None)
        try:
            async with timeout:
                self._uses.add(timeout)
                self._unused.clear()
                try:
                    yield
                finally:
                    self._uses.discard(timeout)
                    if not self._uses:
                        self._unused.set()
        except TimeoutError as e:
            if timeout.expired():
                raise self._error() from e
            raise

    async def close(self) -> None:
        """Waits for users of the locks while no other session can have them, then closes the connection."""
        self._end("closed")
        with suppress(TimeoutError):
            async with asyncio.timeout(self._keepalive.server_s - self._keepalive.lease_s):
                await self._unused.wait()
        if self._asking:
            await asyncio.wait({self._talking}, timeout=_JOIN_S)
        if self._asking:
            # Cancelling the query would itself ask the server, which is silent.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            await asyncio.wait({self._talking}, timeout=_JOIN_S)
        self._talking.cancel()
        await asyncio.wait({self._talking}, timeout=_JOIN_S)
        self._socket.close()
        await self._connection.connection.close()

    async def _run_queries(self) -> None:
        """Sends one query after the other, and a heartbeat where there is none."""
        ask: _Query | None = None
        try:
            while not self.ended.is_set():
                ask = await self._next()
                if not ask.answer.cancelled():
                    await self._execute(ask)
        except (psycopg.Error, OSError) as e:
            self._end(brief(e))
        finally:
            self._end("closed")
            while ask is not None:
                if not ask.answer.done():
                    ask.answer.set_exception(self._error())
                    ask.answer.exception()  # no warning where nobody reads it
                ask = None if self._queries.empty() else self._queries.get_nowait()

    async def _next(self) -> _Query:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._keepalive.heartbeat_s):
                return await self._queries.get()
        return self._beat()

    async def _execute(self, ask: _Query) -> None:
        asked_at = self._loop.time()
        self._asking = True
        try:
            cursor = await self._connection.connection.execute(ask.sql.encode(), ask.values)
            row = await cursor.fetchone() if cursor.description else None
        finally:
            self._asking = False
        if ask.sql == _WHO and (row is None or row[0] != self._connection.pid):
            self._end("another session of the server answers, as behind a pooler")
            return
        self._renew(asked_at)
        if not ask.answer.done():
            ask.answer.set_result(row)

    def _renew(self, asked_at: float) -> None:
        if not self.ended.is_set():
            self._alarm.cancel()
            self._sure_until = asked_at + self._keepalive.lease_s
            self._alarm = self._loop.call_at(self._sure_until, self._overdue)

    def _beat(self) -> _Query:
        return _Query(_WHO, (), self._loop.create_future())

    def _on_readable(self) -> None:
        """Sends a heartbeat when the server says something unasked, which mostly means that it hangs up."""
        if not self._asking and self._queries.empty():
            self._queries.put_nowait(self._beat())

    def _overdue(self) -> None:
        self._end(f"no answer within {self._keepalive.lease_s:g} s")

    def _end(self, why: str) -> None:
        if self.ended.is_set():
            return
        self.why = why
        self.ended.set()
        self._alarm.cancel()
        self._loop.remove_reader(self._socket)
        for timeout in self._uses:
            timeout.reschedule(self._loop.time())

    def _error(self) -> LockSessionEnded:
        return LockSessionEnded(f"The session on PostgreSQL has ended: {self.why or 'it was not heard of'}.", hint=HINT)


@dataclass(frozen=True, slots=True)
class _Query:
    sql: str
    values: tuple[object, ...]
    answer: asyncio.Future[tuple[Any, ...] | None]


_LOCK = "SELECT pg_try_advisory_lock(%s::int, %s::int)"
_UNLOCK = "SELECT pg_advisory_unlock(%s::int, %s::int)"
_WHO = "SELECT pg_backend_pid()"
