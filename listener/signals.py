"""Signals between parts of the listener within this process. The durable records lie in the ledger and the store."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from manifests.errors import RunCancelled, RunSuperseded

MAX_REPORTED = 20_000
"""Reported objects kept until they are fetched; those beyond are missed wakes."""


class ObjectWaiters:
    """Wakes tasks that wait for objects when one may have arrived. A missed wake costs one poll interval."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], set[asyncio.Event]] = {}
        self._reported: set[tuple[str, str]] = set()
        self.any = asyncio.Event()
        """Set while there are reported objects that `drain` has not returned."""

    def report(self, bucket: str, key: str) -> None:
        for event in self._waiting.get((bucket, key), ()):
            event.set()
        if len(self._reported) < MAX_REPORTED:
            self._reported.add((bucket, key))
            self.any.set()

    def drain(self) -> list[tuple[str, str]]:
        """Returns the objects (bucket, key) reported since the last call, for runs that wait in the ledger."""
        told, self._reported = self._reported, set()
        self.any.clear()
        return sorted(told)

    async def wait(self, objects: frozenset[tuple[str, str]], *, at_most_s: float) -> None:
        """Returns when one of `objects` (bucket, key) is reported, or after `at_most_s` seconds."""
        event = asyncio.Event()
        for item in objects:
            self._waiting.setdefault(item, set()).add(event)
        try:
            await asyncio.wait_for(event.wait(), at_most_s)
        except TimeoutError:
            pass
        finally:
            for item in objects:
                events = self._waiting[item]
                events.discard(event)
                if not events:
                    del self._waiting[item]


class Cancellations:
    """Runs that must end early, and why: "cancelled", "superseded", or "incomplete" once one of its jobs has failed."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._events: dict[str, asyncio.Event] = {}
        self._dropped: set[str] = set()

    def request(self, run_id: str, reason: str) -> None:
        """Requests a run's end. The first reason stays, but "superseded" replaces it and stops the run's writes."""
        if reason == "superseded" or run_id not in self._reasons:
            self._reasons[run_id] = reason
        self._event(run_id).set()

    def reason(self, run_id: str) -> str | None:
        return self._reasons.get(run_id)

    def check(self, run_id: str) -> None:
        """Raises RunCancelled or RunSuperseded when the run must end."""
        match self.reason(run_id):
            case None:
                return
            case "superseded":
                raise RunSuperseded("A newer version of the same drop took over.", hint="See the newer run.")
            case "incomplete":
                raise RunCancelled("Another job of the run failed for good.", hint="See that job's error.")
            case _:
                raise RunCancelled("The run was cancelled.", hint="Drop the file again to start it anew.")

    async def wait(self, run_id: str) -> str:
        """Returns the reason once the run must end."""
        while True:
            await self._event(run_id).wait()
            # The request may have been forgotten in between.
            if reason := self.reason(run_id):
                return reason

    def retain(self, run_ids: Collection[str]) -> None:
        """Forgets runs that this call and the last one leave out: they end, or have ended, elsewhere."""
        others = self._reasons.keys() - set(run_ids)
        for run_id in others & self._dropped:
            self.forget(run_id)
        self._dropped = others

    def forget(self, run_id: str) -> None:
        """Forgets a run that has ended."""
        self._reasons.pop(run_id, None)
        self._events.pop(run_id, None)

    def _event(self, run_id: str) -> asyncio.Event:
        return self._events.setdefault(run_id, asyncio.Event())
