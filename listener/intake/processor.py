"""Processes inbox entries: asks the store about each key, decides, and records the decision."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from listener.clock import Clock
from listener.intake.decisions import (
    PHANTOM,
    CancelDecision,
    GoneDecision,
    NoDecision,
    Outcome,
    RunDecision,
    TakenInDecision,
    decide,
    needs_examination,
    request_of,
)
from listener.intake.inbox import Backlog
from listener.intake.source_status import SourceStatusRecorder
from listener.ledger.inbox import InboxEntry, InboxLedger
from listener.ledger.intake import IntakeDecision, IntakeLedger, KnownObjects
from listener.ledger.run_rows import RunRow
from listener.ledger.runs import RunLedger
from listener.run_request import returned, run_row
from listener.signals import Cancellations
from listener.stores.base import ObjectMeta, Store
from listener.triggers.triggers import TriggerBook
from manifests.error_classes import is_waited_for
from manifests.errors import GpuDropError, StoreUnavailable
from manifests.names import drop_path
from manifests.task_groups import task_group

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.intake")

_BATCH = 256
"""Most entries that are examined together."""
_LEAST = 32
"""Fewest entries to which a slow batch shrinks."""
_BATCH_S = 0.25
"""Seconds after which the next batch is smaller, because entries that arrive during it wait as long."""
_PARALLEL = 32
_LOOK_S = 5.0
"""Seconds between searches for unclaimed entries."""
_RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds before an entry is examined again, by the number of failed examinations."""
_DENIED_S = (*_RETRY_S, 300.0)
_DENIED_FOR_S = 21600.0
"""Seconds after which a key that the store refuses is given up. Until then its access rights may be repaired."""
_PHANTOM_LOOKS = 3
"""Examinations repeated while no object is found: a store may report an object before it shows it."""


@dataclass(frozen=True, slots=True)
class ProcessorServices:
    """The collaborators of the processor."""

    store: Store
    inbox: InboxLedger
    settling: IntakeLedger
    runs: RunLedger
    triggers: TriggerBook
    cancellations: Cancellations
    source_status: SourceStatusRecorder
    backlog: Backlog
    clock: Clock
    accepted: Callable[[], None]
    """Called when new runs wait to be started."""
    max_lineage: int


@dataclass(frozen=True, slots=True)
class _Examined:
    """An entry and its outcome."""

    item: InboxEntry
    outcome: Outcome
    known: KnownObjects
    """What the outcome was decided by."""


@dataclass(frozen=True, slots=True)
class _ExamineLater:
    item: InboxEntry
    pause_s: float


class InboxProcessor:
    def __init__(self, parts: ProcessorServices) -> None:
        self._p = parts
        self._batch = _BATCH

    async def run(self) -> None:
        """Processes entries until cancelled. Those it holds stay recorded, and are examined after the next start."""
        now = asyncio.get_running_loop().time
        while True:
            try:
                items = await self._next()
                if items:
                    began = now()
                    await self.examine(items)
                    self._keep_pace(now() - began)
                else:
                    await self._p.backlog.wait(_LOOK_S)
                    self._p.backlog.others = True
            except StoreUnavailable as e:
                log.error("inbox_not_read", code=e.info.code, error=str(e), hint=e.info.hint)
                self._p.backlog.doubted()
                await asyncio.sleep(_RETRY_S[0])

    def _keep_pace(self, took_s: float) -> None:
        if took_s > _BATCH_S:
            self._batch = max(_LEAST, self._batch // 2)
        elif took_s < _BATCH_S / 4:
            self._batch = min(_BATCH, self._batch * 2)

    async def _next(self) -> list[InboxEntry]:
        """Returns held entries and newly claimed ones, so that neither starves the other."""
        backlog = self._p.backlog
        if backlog.doubt:
            backlog.doubt = False
            backlog.others = True
            backlog.regain(await self._p.inbox.held())
        mine = backlog.take(self._batch)
        if not backlog.others:
            return mine
        claimed = await self._p.inbox.claim(self._batch, self._p.clock())
        backlog.others = len(claimed) == self._batch
        return mine + claimed

    async def examine(self, items: Sequence[InboxEntry]) -> None:
        """Examines entries and records the decisions. Raises StoreUnavailable, and then leaves them as they were."""
        known: dict[tuple[str, str], KnownObjects] = {}
        for bucket in {item.told.bucket for item in items}:
            keys = [item.told.key for item in items if item.told.bucket == bucket]
            found = await self._p.settling.known(bucket, keys)
            known.update(((bucket, key), of_key) for key, of_key in found.items())
        gate = asyncio.Semaphore(_PARALLEL)
        async with task_group() as group:
            tasks = [group.create_task(self._look(item, known, gate)) for item in items]
        results = [task.result() for task in tasks]
        await self._settle([r for r in results if isinstance(r, _Examined)])
        later = [r for r in results if isinstance(r, _ExamineLater)]
        for pause_s in {each.pause_s for each in later}:
            same = [each.item for each in later if each.pause_s == pause_s]
            await self._p.inbox.postpone(same, self._p.clock() + pause_s)

    async def _look(
        self, item: InboxEntry, known: dict[tuple[str, str], KnownObjects], gate: asyncio.Semaphore
    ) -> _Examined | _ExamineLater:
        told = item.told
        of_key = known.get((told.bucket, told.key), KnownObjects())
        meta: ObjectMeta | None = None
        if needs_examination(told, of_key):
            try:
                async with gate:
                    meta = await self._p.store.head(told.bucket, told.key)
            except GpuDropError as e:
                return self._not_looked(item, e)
            except Exception:
                # A defect that one key exposes must not stop the examination of all others.
                log.exception("look_defect", bucket=told.bucket, key=told.key)
                return _ExamineLater(item, _pause_s(item, _RETRY_S))
        outcome = decide(told, meta, of_key, self._p.triggers, max_lineage=self._p.max_lineage)
        if outcome == PHANTOM and item.attempts < _PHANTOM_LOOKS:
            return _ExamineLater(item, _pause_s(item, _RETRY_S))
        return _Examined(item, outcome, of_key)

    def _not_looked(self, item: InboxEntry, e: GpuDropError) -> _Examined | _ExamineLater:
        """Postpones an entry after an error that a run would wait for, a refusal for some hours; else refuses it."""
        told = item.told
        at = {"bucket": told.bucket, "key": told.key, "error": str(e), "hint": e.info.hint}
        if isinstance(e, StoreUnavailable):
            log.warning("key_not_looked_up", **at)
            return _ExamineLater(item, _pause_s(item, _RETRY_S))
        if is_waited_for(e) and self._p.clock.age_s(told.received) < _DENIED_FOR_S:
            level = log.debug if item.attempts else log.error
            level("key_not_looked_up", code=e.info.code, **at)
            return _ExamineLater(item, _pause_s(item, _DENIED_S))
        log.error("event_refused", source=told.source, code=e.info.code, **at)
        return _Examined(item, NoDecision(e.info.code), KnownObjects())

    async def _settle(self, looked: Sequence[_Examined]) -> None:
        settlements = [await self._settlement(each) for each in looked]
        settled = await self._p.settling.settle(settlements, reason="cancelled")
        fit = [
            (each, settlement)
            for each, settlement in zip(looked, settlements, strict=True)
            if (each.item.told.bucket, each.item.told.key) not in settled.stale
        ]
        for _, settlement in fit:
            for run_id in settlement.cancel:
                self._p.cancellations.request(run_id, "cancelled")
        for run_id in settled.superseded:
            self._p.cancellations.request(run_id, "superseded")
        self._tell(fit, settled.started)
        for each, _ in fit:
            if isinstance(each.outcome, CancelDecision):
                await self._delete(each.item)
        if settled.stale:
            self._p.backlog.put((), others=True)
        if settled.started:
            self._p.accepted()

    async def _settlement(self, looked: _Examined) -> IntakeDecision:
        item = looked.item
        match looked.outcome:
            case RunDecision(seen=seen) as run:
                request = request_of(item.told, run)
                row, again = (run_row(each, self._p.clock()) for each in (request, returned(request, seen)))
                return IntakeDecision(item, seen, row, again if run.returns else None, before=looked.known.seen)
            case TakenInDecision(seen=seen):
                return IntakeDecision(item, seen, before=looked.known.seen)
            case GoneDecision(runs=runs, seen=seen):
                return IntakeDecision(item, seen, cancel=runs, before=looked.known.seen)
            case CancelDecision(target=target):
                return IntakeDecision(item, cancel=await self._of_target(item.told.bucket, target))
            case NoDecision():
                return IntakeDecision(item)

    async def _of_target(self, bucket: str, target: str) -> tuple[str, ...]:
        """Returns the unfinished runs of the drops that a `.cancel` names: all of that name, or the one of that key."""
        rows = await self._p.runs.unfinished_below(bucket, target)
        return tuple(row.run_id for row in rows if target in (drop_path(row.key), row.key))

    async def _delete(self, item: InboxEntry) -> None:
        try:
            await self._p.store.delete(item.told.bucket, item.told.key)
        except GpuDropError as e:
            log.warning("cancel_not_deleted", key=item.told.key, error=str(e), hint=e.info.hint)

    def _tell(self, settled: Sequence[tuple[_Examined, IntakeDecision]], started: Sequence[RunRow]) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        runs = {(run.bucket, run.key): run for run in started}
        for each, settlement in settled:
            run = runs.get((each.item.told.bucket, each.item.told.key))
            what = _name(each.outcome, new=run is not None)
            counts[each.item.told.source, what] += 1
            for run_id in settlement.cancel:
                log.info("run_cancelled", run_id=run_id, because=f"{each.item.told.key} was {_deed(each.outcome)}")
            if run:
                log.info("run_accepted", run_id=run.run_id, key=run.key, trigger=run.trigger)
            else:
                log.debug("event_ended", bucket=each.item.told.bucket, key=each.item.told.key, outcome=what)
        for (source, what), n in counts.items():
            self._p.source_status.count(source, what, n)


def _pause_s(item: InboxEntry, pauses_s: Sequence[float]) -> float:
    return pauses_s[min(item.attempts, len(pauses_s) - 1)]


def _name(outcome: Outcome, *, new: bool) -> str:
    match outcome:
        case RunDecision():
            return "run" if new else "the same version again"
        case TakenInDecision(reason=reason) | NoDecision(reason=reason):
            return reason.partition(":")[0]
        case GoneDecision():
            return "removed"
        case CancelDecision():
            return "cancel"


def _deed(outcome: Outcome) -> str:
    return "dropped" if isinstance(outcome, CancelDecision) else "deleted"
