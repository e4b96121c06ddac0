"""Several listeners on one PostgreSQL, with an advisory lock for each listener's place and for each role.

A place is a numbered slot: the session with its lock holds it, and it belongs to the process whose mark is in its row.
Both are needed: a session may break and be replaced, and only the mark shows whether another process had the place
in between.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import uuid
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any

import structlog

from gpu_dispatch.net.retries import CLUSTER_SESSION, Retries, is_known
from listener.cluster.advisory_locks import AdvisoryLock, LockSession, LockSessionEnded
from listener.cluster.connection import HINT, Keepalive, connect
from manifests.errors import ConfigError, StoreUnavailable

PLACES = 64
"""Most listeners on one database."""

_PLACE = 0x67707564
_ROLE = 0x67707565
_TABLE = """DO $$ BEGIN
    CREATE TABLE IF NOT EXISTS gpudrop_places (place integer PRIMARY KEY, mark text NOT NULL);
EXCEPTION WHEN unique_violation OR duplicate_table OR duplicate_object THEN NULL;  -- somebody makes it right now
END $$"""
_KNOWN = "SELECT to_regclass('gpudrop_places') IS NOT NULL"
_MARK = "INSERT INTO gpudrop_places VALUES (%s, %s) ON CONFLICT (place) DO UPDATE SET mark = excluded.mark"
_READ = "SELECT mark FROM gpudrop_places WHERE place = %s"
_NOBODY = ""

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.cluster")


class _Membership(Enum):
    KEPT = "kept"
    UNCLEAR = "unclear"
    TAKEN = "taken"


class PostgresCluster:
    """The cluster on one database. `url` is postgresql://…, also with a driver's name as SQLAlchemy takes it."""

    def __init__(self, url: str, rng: random.Random, keepalive: Keepalive | None = None) -> None:
        self.lost = asyncio.Event()
        self._url = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)
        self._rng = rng
        self._keepalive = keepalive or Keepalive()
        self._mark = uuid.uuid4().hex
        self._place = 0
        self._open_session: LockSession | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def member(self) -> str:
        if not self._place:
            raise RuntimeError("the cluster is not open")
        return f"m{self._place}"

    @property
    def certain(self) -> bool:
        return self._open_session is not None and self._open_session.certain and not self.lost.is_set()

    async def open(self) -> None:
        session = LockSession(await connect(self._url, self._keepalive), self._keepalive)
        try:
            await _make_table(session)
            place = await self._first_free(session)
            await self._prove_locks(place)
            await session.ask(_MARK, place, self._mark)
        except BaseException:
            await session.close()
            raise
        self._place = place
        self._open_session = session
        self._keeping = asyncio.create_task(self._maintain())
        log.info("place_taken", member=self.member)

    async def close(self) -> None:
        if self._keeping:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        if self._open_session:
            await self._open_session.close()

    async def lead(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        lock = AdvisoryLock(_ROLE, _number(name))
        while True:
            try:
                session = self._session
                if await session.try_lock(lock):
                    log.info("leads", role=name, member=self.member)
                    try:
                        async with session.held():
                            return await work()
                    finally:
                        session.unlock(lock)
            except LockSessionEnded as e:
                log.debug("leads_not", role=name, error=str(e))
            await asyncio.sleep(self._keepalive.retry_s * self._rng.uniform(0.6, 1.0))

    @asynccontextmanager
    async def orphans(self, among: Collection[str]) -> AsyncGenerator[tuple[str, ...]]:
        session = self._session
        alone: list[int] = []
        async with session.held():
            try:
                for place in sorted(_places(among) - {self._place}):
                    if await session.try_lock(AdvisoryLock(_PLACE, place)):
                        alone.append(place)
                        await session.ask(_MARK, place, _NOBODY)
                yield tuple(f"m{place}" for place in alone)
            finally:
                for place in alone:
                    session.unlock(AdvisoryLock(_PLACE, place))

    @property
    def _session(self) -> LockSession:
        if self._open_session is None:
            raise RuntimeError("the cluster is not open")
        return self._open_session

    async def _first_free(self, session: LockSession) -> int:
        for place in range(1, PLACES + 1):
            if await session.try_lock(AdvisoryLock(_PLACE, place)):
                return place
        raise ConfigError(
            f"{PLACES} listeners use this database already.",
            hint="Stop some, or give this one a database of its own.",
            where="state",
        )

    async def _prove_locks(self, place: int) -> None:
        """Checks that another session cannot get a lock that this one holds. Raises ConfigError where it can."""
        other = LockSession(await connect(self._url, self._keepalive), self._keepalive)
        try:
            granted = await other.try_lock(AdvisoryLock(_PLACE, place))
        finally:
            await other.close()
        if granted:
            raise ConfigError(
                "The database does not keep session locks, as behind a pooler in transaction mode.",
                hint="Give a URL that leads to PostgreSQL itself, or to a pooler in session mode.",
                where="state",
            )

    async def _maintain(self) -> None:
        """Takes the same place again whenever the session ends, until another process has taken it."""
        while not self.lost.is_set():
            session = self._session
            await session.ended.wait()
            log.warning("place_unsure", member=self.member, error=session.why)
            await session.close()
            back = await self._rejoin()
            if back is None:
                log.error("place_lost", member=self.member, hint="Another listener took it; this one has to restart.")
                self.lost.set()
            else:
                log.info("place_kept", member=self.member)
                self._open_session = back

    async def _rejoin(self) -> LockSession | None:
        """Returns a new session that holds our place; None when another process has taken it."""
        retries = Retries(CLUSTER_SESSION, rng=self._rng)
        return await retries.call(
            self._try_rejoin,
            on=is_known,
            on_failure=lambda failure: log.debug("not_back_yet", error=str(failure.error)),
        )

    async def _try_rejoin(self) -> LockSession | None:
        """Makes one attempt of `_rejoin`. Raises GpuDropError while the place's owner is unknown."""
        session = LockSession(await connect(self._url, self._keepalive), self._keepalive)
        membership = _Membership.UNCLEAR
        try:
            membership = await self._membership(session)
        finally:
            if membership is not _Membership.KEPT:
                await session.close()
        if membership is _Membership.UNCLEAR:
            raise StoreUnavailable("Whose the place is cannot be told yet.", hint=HINT)
        return session if membership is _Membership.KEPT else None

    async def _membership(self, session: LockSession) -> _Membership:
        got = await session.try_lock(AdvisoryLock(_PLACE, self._place))
        row = await session.ask(_READ, self._place)
        if row is None or row[0] != self._mark:
            return _Membership.TAKEN
        # Our mark, but no lock: our previous session lingers, or another process is about to write its mark.
        return _Membership.KEPT if got else _Membership.UNCLEAR


async def _make_table(session: LockSession) -> None:
    """Creates the table unless it exists: a role that may not create tables can use an existing one."""
    known = await session.ask(_KNOWN)
    if not (known and known[0]):
        await session.ask(_TABLE)


def _places(members: Collection[str]) -> set[int]:
    found = (re.fullmatch(r"m([1-9]\d?)", member) for member in members)
    return {int(match[1]) for match in found if match and int(match[1]) <= PLACES}


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), signed=True)
