"""Carries a history out on a whole installation: users' acts and faults at their seconds, then calm until all ended."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from minio.error import MinioException
from urllib3.exceptions import HTTPError

from support.histories.callbacks import Receiver
from support.histories.drops import Act, Drop
from support.histories.expected import uncalled, unended
from support.histories.listener import Listener
from support.histories.outages import ApiFault, Schedule, Strike, Window
from support.histories.remains import Reader, Remains
from support.histories.store_proxy import StoreProxy
from support.installation import MinioDrops
from support.runpod.cloud import Cloud
from support.runpod.endpoint import Endpoint
from support.runpod.faults import Fault, empty, failing, html, reset, reset_mid_body, too_many
from support.runpod.processes import Worker
from support.stores import servers

_API_FAULTS: dict[str, Callable[[], Fault]] = {
    "reset": reset,
    "reset_taken": lambda: reset(taken=True),
    "reset_mid_body": reset_mid_body,
    "failing": failing,
    "failing_taken": lambda: failing(taken=True),
    "too_many": too_many,
    "html": html,
    "empty": empty,
}
_RETRY_S = 0.3
_LOOK_S = 1.0
_QUIET_S = 2.0
_GIVEN_UP_S = 15.0
"""Longer than until the next listing, which might still find something."""
_THREADS = 6


@dataclass
class Player:
    """`server` and `drops` are the store as users reach it, past `proxy`. `workers` are one process each.

    `puts` are the bodies that users have sent, tried again or not.
    """

    server: Any
    drops: MinioDrops
    proxy: StoreProxy
    there: Cloud
    endpoint: Endpoint
    workers: Sequence[Worker]
    listener: Listener
    receiver: Receiver
    reader: Reader
    rng: random.Random
    puts: list[bytes] = field(default_factory=list[bytes])
    began: float = 0.0
    _users: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_THREADS, "users"))
    _strikes: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_THREADS, "strikes"))
    _listener_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _store_turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def play(self, drops: Sequence[Drop], schedule: Schedule) -> None:
        """Returns when all has been done to it; what it does then it does undisturbed."""
        self.began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for drop in drops:
                group.create_task(self._drop(drop))
            for window in schedule.windows:
                group.create_task(self._window(window))
            for strike in schedule.strikes:
                group.create_task(self._strike(strike))
            for fault in schedule.api_faults:
                group.create_task(self._api_fault(fault))
        await asyncio.to_thread(self.there.of, lambda p: p.faults.clear())
        self.receiver.calm = True
        await self.proxy.settled()

    async def ended(self, drops: Sequence[Drop], *, within_s: float) -> None:
        """Returns when every drop has come to its end, or nothing happens any more, or after `within_s`."""
        deadline = time.monotonic() + within_s
        before, since = Remains({}, {}), time.monotonic()
        while time.monotonic() < deadline:
            seen = await asyncio.to_thread(self.reader.bucket)
            if seen.etags != before.etags or await asyncio.to_thread(self.reader.busy):
                before, since = seen, time.monotonic()
            quiet_s = time.monotonic() - since
            missing = unended(drops, seen) or uncalled(drops, seen, self.receiver.posts)
            if quiet_s > _GIVEN_UP_S or (quiet_s > _QUIET_S and not missing):
                return
            await asyncio.sleep(_LOOK_S)

    async def _drop(self, drop: Drop) -> None:
        for act in drop.acts:
            await self._until(act.at)
            await self._do(act)

    async def _do(self, act: Act) -> None:
        """As a user does: again and again while the store is away."""
        while True:
            try:
                await asyncio.get_running_loop().run_in_executor(self._users, self._act, act)
                return
            except (MinioException, HTTPError, OSError):
                await asyncio.sleep(_RETRY_S)

    def _act(self, act: Act) -> None:
        if act.data is None:
            self.drops.delete(act.key)
        else:
            self.puts.append(act.data)
            self.drops.put(act.key, act.data)

    async def _window(self, window: Window) -> None:
        await self._until(window.at)
        self.proxy.faults.insert(0 if window.fault.suffix else len(self.proxy.faults), window.fault)
        if window.fault.way == "away":
            self.proxy.reset_all()
        await asyncio.sleep(window.lasts)
        self.proxy.faults.remove(window.fault)

    async def _strike(self, strike: Strike) -> None:
        await self._until(strike.at)
        match strike.blow:
            case "kill" | "stop":
                async with self._listener_turn:
                    await self._away(getattr(self.listener, strike.blow), strike.away, self.listener.start)
            case "kill_store":
                async with self._store_turn:
                    await self._away(lambda: servers.kill(self.server), strike.away, self._start_store)
            case "kill_worker" if self.workers:
                worker = self.rng.choice(self.workers)
                await self._blocking(lambda: self.there.of(lambda _: worker.kill()))
            case "kill_worker":
                pass
            case "lose_job":
                await self._to_a_job(self.endpoint.lose, lambda job: job.status == "IN_PROGRESS")
            case "repeat_job":
                await self._to_a_job(self.endpoint.requeue, lambda job: job.status == "COMPLETED")

    async def _away(self, end: Callable[[], object], seconds: float, begin: Callable[[], object]) -> None:
        await self._blocking(end)
        await asyncio.sleep(seconds)
        await self._blocking(begin)

    def _start_store(self) -> None:
        servers.restart(self.server)

    async def _to_a_job(self, act: Callable[[Any], object], wanted: Callable[[Any], bool]) -> None:
        def choose(_: Any) -> None:
            found = [job for job in self.endpoint.jobs.values() if wanted(job) and not job.gone]
            if found:
                act(self.rng.choice(found))

        await self._blocking(lambda: self.there.of(choose))

    async def _api_fault(self, fault: ApiFault) -> None:
        await self._until(fault.at)
        made = _API_FAULTS[fault.fault]()
        await self._blocking(
            lambda: self.there.of(lambda p: p.faults.on(fault.op, made, fault.times, endpoint=self.endpoint.id))
        )

    def _blocking(self, work: Callable[[], object]) -> Awaitable[object]:
        return asyncio.get_running_loop().run_in_executor(self._strikes, work)

    async def _until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, self.began + at - time.monotonic()))
