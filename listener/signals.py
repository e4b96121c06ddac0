"""What one part of the listener lets another know at once, within this process. The durable truth lies elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from manifests.errors import RunCancelled, RunSuperseded

_MOST_TOLD = 20_000
"""Objects told of that nobody has fetched yet; what comes beyond is a missed wake."""


class ObjectWaiters:
    """Wakes whoever waits for objects when one may have arrived. A missed wake costs a poll interval, no more."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], set[asyncio.Event]] = {}
        self._told: set[tuple[str, str]] = set()
        self.any = asyncio.Event()
        """Set once an object was told of that `fetch` has not given yet."""

    def tell(self, bucket: str, key: str) -> None:
        for event in self._waiting.get((bucket, key), ()):
            event.set()
        if len(self._told) < _MOST_TOLD:
            self._told.add((bucket, key))
            self.any.set()

    def fetch(self) -> list[tuple[str, str]]:
        """The objects (bucket, key) told of since the last call: runs that wait for them may wait in the ledger."""
        told, self._told = self._told, set()
        self.any.clear()
        return sorted(told)

    async def wait(self, objects: frozenset[tuple[str, str]], *, at_most_s: float) -> None:
        """Returns when one of `objects` (bucket, key) was told of, or after `at_most_s`."""
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
    """Runs that are to end early, and why: "cancelled", "superseded", or "incomplete" once a part of it has failed."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._events: dict[str, asyncio.Event] = {}
        self._dropped: set[str] = set()

    def request(self, run_id: str, reason: str) -> None:
        """Of several reasons the first stays, but for "superseded": then nothing is written for the run any more."""
        if reason == "superseded" or run_id not in self._reasons:
            self._reasons[run_id] = reason
        self._event(run_id).set()

    def reason(self, run_id: str) -> str | None:
        return self._reasons.get(run_id)

    def check(self, run_id: str) -> None:
        """Raises RunCancelled or RunSuperseded when the run is to end."""
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
        """Returns the reason once the run is to end."""
        while True:
            await self._event(run_id).wait()
            # Asked for and forgotten at once: then it is not to end after all.
            if reason := self.reason(run_id):
                return reason

    def keep(self, run_ids: Collection[str]) -> None:
        """Forgets all others, if the last call did not keep them either: they end, or have ended, elsewhere."""
        others = self._reasons.keys() - set(run_ids)
        for run_id in others & self._dropped:
            self.forget(run_id)
        self._dropped = others

    def forget(self, run_id: str) -> None:
        """The run has ended."""
        self._reasons.pop(run_id, None)
        self._events.pop(run_id, None)

    def _event(self, run_id: str) -> asyncio.Event:
        return self._events.setdefault(run_id, asyncio.Event())
