"""The inbox: from an event to a recorded run, to the end of one, or to nothing, with the reason counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import TypeAdapter

from listener.engine import Engine
from listener.events import ObjectCreated, ObjectEvent, ObjectRemoved
from listener.ledger.objects import ObjectLedger, fingerprint
from listener.ledger.runs import EndReason, RunLedger, RunRow
from listener.runs import RunRequest, run_id_of
from listener.signals import Arrivals, Ends
from listener.sources.base import Condition
from listener.store import ObjectMeta, Store
from listener.triggers import CancelRequest, Ignored, Skip, Trigger, TriggerBook, guard_loop
from manifests.keys import key_problem
from manifests.names import drop_path

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.intake")

PARALLEL = 16
_REQUEST: TypeAdapter[RunRequest] = TypeAdapter(RunRequest)


@dataclass(frozen=True, slots=True)
class IntakeParts:
    """What the inbox works with. `clock` gives epoch seconds; `gap` asks for a listing soon."""

    store: Store
    engine: Engine
    triggers: TriggerBook
    objects: ObjectLedger
    runs: RunLedger
    arrivals: Arrivals
    ends: Ends
    clock: Callable[[], float]
    gap: Callable[[str], None]
    max_lineage: int


class Intake:
    def __init__(self, parts: IntakeParts) -> None:
        self._p = parts
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> Mapping[str, int]:
        """Events by what became of them: "run", "cancel", or the reason for nothing."""
        return self._counts

    def gap(self, source: str, reason: str) -> None:
        log.debug("gap", source=source, reason=reason)
        self._p.gap(f"{source}: {reason}")

    def report(self, source: str, condition: Condition) -> None:
        log.log(20 if condition.ok else 40, "source", source=source, detail=condition.detail, hint=condition.hint)

    def count(self, source: str, what: str, n: int = 1) -> None:
        self._counts[f"{source}: {what}"] += n

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        """Only the last event of a key counts: what the object is now, the store says."""
        latest = {(e.bucket, e.key): e for e in events}
        gate = asyncio.Semaphore(PARALLEL)

        async def one(event: ObjectEvent) -> None:
            async with gate:
                await (self._created(event) if isinstance(event, ObjectCreated) else self._removed(event))

        if len(latest) == 1:
            await one(events[-1])
            return
        failed = [e for e in await asyncio.gather(*map(one, latest.values()), return_exceptions=True) if e]
        if failed:
            raise failed[0]

    async def redrive(self, number: int, row: RunRow) -> str:
        """Starts an ended run again as a new one; returns its id. The same `number` starts it once."""
        old = _REQUEST.validate_python(row.request)
        run_id = run_id_of(old.bucket, old.key, old.version, redrive=number)
        now = self._p.clock()
        request = RunRequest(
            run_id=run_id,
            bucket=old.bucket,
            key=old.key,
            version=old.version,
            trigger=old.trigger,
            received=now,
            object_time=old.object_time,
            source="redrive",
            lineage=old.lineage,
        )
        await self._start(request)
        return run_id

    async def end(self, run_id: str, reason: EndReason) -> None:
        """Asks a run to end; recorded first, so that it ends even if this process does before it."""
        await self._p.runs.request_end(run_id, reason)
        self._p.ends.request(run_id, reason)

    async def _created(self, event: ObjectCreated) -> None:
        self._p.arrivals.tell(event.bucket, event.key)
        decision = self._p.triggers.match(event.bucket, event.key)
        if isinstance(decision, Ignored):
            self._ignore(event, decision.reason)
        elif isinstance(decision, CancelRequest):
            await self._cancel_drop(event.bucket, event.key, decision.target)
        else:
            await self._drop(event, decision.trigger)

    async def _drop(self, event: ObjectCreated, trigger: Trigger) -> None:
        meta = await self._p.store.head(event.bucket, event.key)
        if meta is None:
            self._ignore(event, "phantom: there is no such object")
            return
        written = await self._p.objects.written(event.bucket, event.key)
        verdict = guard_loop(
            written,
            version=fingerprint(meta),
            metadata_run_id=meta.run_id,
            chain=trigger.chain,
            max_lineage=self._p.max_lineage,
        )
        if isinstance(verdict, Skip):
            self._ignore(event, verdict.reason)
        else:
            await self._start(self._request(event, trigger, meta, verdict.lineage))
        await self._p.objects.saw(event.bucket, meta)

    def _request(self, event: ObjectCreated, trigger: Trigger, meta: ObjectMeta, lineage: int) -> RunRequest:
        return RunRequest(
            run_id=run_id_of(event.bucket, event.key, meta.version),
            bucket=event.bucket,
            key=event.key,
            version=meta.version,
            trigger=trigger,
            received=self._p.clock(),
            object_time=meta.last_modified.timestamp(),
            source=event.source,
            lineage=lineage,
        )

    async def _start(self, request: RunRequest) -> None:
        """Recorded in the ledger, then in the engine: a crash in between leaves an event that comes again."""
        data: Any = _REQUEST.dump_python(request, mode="json")
        row = RunRow(
            run_id=request.run_id,
            bucket=request.bucket,
            key=request.key,
            trigger=request.trigger.name,
            state="accepted",
            accepted=request.received,
            updated=request.received,
            request=data,
        )
        new = await self._p.runs.add(row)
        if new:
            self._counts["run"] += 1
            log.info("run_accepted", run_id=request.run_id, key=request.key, trigger=request.trigger.name)
            await self._supersede(request)
        else:
            self._counts["the same version again"] += 1
        await self._p.engine.submit(request.run_id, data)

    async def _supersede(self, request: RunRequest) -> None:
        for older in await self._p.runs.of(request.bucket, request.key):
            if older.run_id != request.run_id and not older.ended:
                log.info("run_superseded", run_id=older.run_id, by=request.run_id, key=request.key)
                await self.end(older.run_id, "superseded")

    async def _removed(self, event: ObjectRemoved) -> None:
        """Deleting what was dropped cancels what it started. The store is asked: order of events is not certain."""
        if key_problem(event.key) or await self._p.store.head(event.bucket, event.key) is not None:
            self._ignore(event, "removed, and there again")
            return
        await self._p.objects.forget(event.bucket, event.key)
        for run in await self._p.runs.of(event.bucket, event.key):
            if not run.ended:
                self._counts["cancel"] += 1
                log.info("run_cancelled", run_id=run.run_id, key=run.key, because="its file was deleted")
                await self.end(run.run_id, "cancelled")

    async def _cancel_drop(self, bucket: str, key: str, target: str) -> None:
        self._counts["cancel"] += 1
        for run in await self._p.runs.unfinished():
            if run.bucket == bucket and drop_path(run.key) == target:
                log.info("run_cancelled", run_id=run.run_id, key=run.key, because=f"{key} was dropped")
                await self.end(run.run_id, "cancelled")
        await self._p.store.delete(bucket, key)

    def _ignore(self, event: ObjectEvent, reason: str) -> None:
        self._counts[reason.partition(":")[0] if reason.startswith("phantom") else _general(reason)] += 1
        level = log.warning if key_problem(event.key) else log.debug
        level("event_ignored", source=event.source, bucket=event.bucket, key=event.key, reason=reason)


def _general(reason: str) -> str:
    """`reason` without names in it, so that counts stay few."""
    return "an output of a run" if reason.startswith("run ") else reason
