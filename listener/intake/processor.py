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
from listener.ledger.intake import IntakeDecision, IntakeLedger, KnownObject
from listener.ledger.run_rows import RunRow
from listener.ledger.runs import RunLedger
from listener.run_request import run_row, with_new_version_id
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
_POLL_S = 5.0
"""Seconds between searches for unclaimed entries."""
_RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds before an entry is examined again, by the number of failed examinations."""
_DENIED_S = (*_RETRY_S, 300.0)
_DENIED_FOR_S = 21600.0
"""Seconds after which a key that the store refuses is given up. Until then its access rights may be repaired."""
_PHANTOM_ATTEMPTS = 3
"""Examinations repeated while no object is found: a store may report an object before it shows it."""


@dataclass(frozen=True, slots=True)
class ProcessorServices:
    """The collaborators of the processor."""

    store: Store
    inbox: InboxLedger
    intake: IntakeLedger
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

    entry: InboxEntry
    outcome: Outcome
    known: KnownObject
    """What the outcome was decided by."""


@dataclass(frozen=True, slots=True)
class _ExamineLater:
    entry: InboxEntry
    pause_s: float


class InboxProcessor:
    def __init__(self, parts: ProcessorServices) -> None:
        self._services = parts
        self._batch = _BATCH

    async def run(self) -> None:
        """Processes entries until cancelled. Those it holds stay recorded, and are examined after the next start."""
        now = asyncio.get_running_loop().time
        while True:
            try:
                entries = await self._next()
                if entries:
                    began = now()
                    await self.examine(entries)
                    self._keep_pace(now() - began)
                else:
                    await self._services.backlog.wait(_POLL_S)
                    self._services.backlog.unclaimed = True
            except StoreUnavailable as e:
                log.error("inbox_not_read", code=e.info.code, error=str(e), hint=e.info.hint)
                self._services.backlog.mark_uncertain()
                await asyncio.sleep(_RETRY_S[0])

    def _keep_pace(self, took_s: float) -> None:
        if took_s > _BATCH_S:
            self._batch = max(_LEAST, self._batch // 2)
        elif took_s < _BATCH_S / 4:
            self._batch = min(_BATCH, self._batch * 2)

    async def _next(self) -> list[InboxEntry]:
        """Returns held entries and newly claimed ones, so that neither starves the other."""
        backlog = self._services.backlog
        if backlog.uncertain:
            backlog.uncertain = False
            backlog.unclaimed = True
            backlog.restore(await self._services.inbox.held())
        mine = backlog.take(self._batch)
        if not backlog.unclaimed:
            return mine
        claimed = await self._services.inbox.claim(self._batch, self._services.clock())
        backlog.unclaimed = len(claimed) == self._batch
        return mine + claimed

    async def examine(self, entries: Sequence[InboxEntry]) -> None:
        """Examines entries and records the decisions. Raises StoreUnavailable, and then leaves them as they were."""
        known: dict[tuple[str, str], KnownObject] = {}
        for bucket in {entry.event.bucket for entry in entries}:
            keys = [entry.event.key for entry in entries if entry.event.bucket == bucket]
            found = await self._services.intake.known(bucket, keys)
            known.update(((bucket, key), of_key) for key, of_key in found.items())
        gate = asyncio.Semaphore(_PARALLEL)
        async with task_group() as group:
            tasks = [group.create_task(self._examine_one(entry, known, gate)) for entry in entries]
        results = [task.result() for task in tasks]
        await self._commit([r for r in results if isinstance(r, _Examined)])
        later = [r for r in results if isinstance(r, _ExamineLater)]
        for pause_s in {each.pause_s for each in later}:
            same = [each.entry for each in later if each.pause_s == pause_s]
            await self._services.inbox.postpone(same, self._services.clock() + pause_s)

    async def _examine_one(
        self, entry: InboxEntry, known: dict[tuple[str, str], KnownObject], gate: asyncio.Semaphore
    ) -> _Examined | _ExamineLater:
        event = entry.event
        of_key = known.get((event.bucket, event.key), KnownObject())
        meta: ObjectMeta | None = None
        if needs_examination(event, of_key):
            try:
                async with gate:
                    meta = await self._services.store.head(event.bucket, event.key)
            except GpuDropError as e:
                return self._examination_failed(entry, e)
            except Exception:
                # A defect that one key exposes must not stop the examination of all others.
                log.exception("look_defect", bucket=event.bucket, key=event.key)
                return _ExamineLater(entry, _pause_s(entry, _RETRY_S))
        outcome = decide(event, meta, of_key, self._services.triggers, max_lineage=self._services.max_lineage)
        if outcome == PHANTOM and entry.attempts < _PHANTOM_ATTEMPTS:
            return _ExamineLater(entry, _pause_s(entry, _RETRY_S))
        return _Examined(entry, outcome, of_key)

    def _examination_failed(self, entry: InboxEntry, e: GpuDropError) -> _Examined | _ExamineLater:
        """Postpones an entry after an error that a run would wait for, a refusal for some hours; else refuses it."""
        event = entry.event
        at = {"bucket": event.bucket, "key": event.key, "error": str(e), "hint": e.info.hint}
        if isinstance(e, StoreUnavailable):
            log.warning("key_not_looked_up", **at)
            return _ExamineLater(entry, _pause_s(entry, _RETRY_S))
        if is_waited_for(e) and self._services.clock.age_s(event.received) < _DENIED_FOR_S:
            level = log.debug if entry.attempts else log.error
            level("key_not_looked_up", code=e.info.code, **at)
            return _ExamineLater(entry, _pause_s(entry, _DENIED_S))
        log.error("event_refused", source=event.source, code=e.info.code, **at)
        return _Examined(entry, NoDecision(e.info.code), KnownObject())

    async def _commit(self, examined: Sequence[_Examined]) -> None:
        decisions = [await self._decision(each) for each in examined]
        result = await self._services.intake.commit(decisions, reason="cancelled")
        fit = [
            (each, decision)
            for each, decision in zip(examined, decisions, strict=True)
            if (each.entry.event.bucket, each.entry.event.key) not in result.stale
        ]
        for _, decision in fit:
            for run_id in decision.cancel:
                self._services.cancellations.request(run_id, "cancelled")
        for run_id in result.superseded:
            self._services.cancellations.request(run_id, "superseded")
        self._log_results(fit, result.started)
        for each, _ in fit:
            if isinstance(each.outcome, CancelDecision):
                await self._delete(each.entry)
        if result.stale:
            self._services.backlog.put((), unclaimed=True)
        if result.started:
            self._services.accepted()

    async def _decision(self, examined: _Examined) -> IntakeDecision:
        entry = examined.entry
        match examined.outcome:
            case RunDecision(seen=seen) as run:
                request = request_of(entry.event, run)
                row, again = (
                    run_row(each, self._services.clock()) for each in (request, with_new_version_id(request, seen))
                )
                return IntakeDecision(entry, seen, row, again if run.returns else None, known=examined.known.seen)
            case TakenInDecision(seen=seen):
                return IntakeDecision(entry, seen, known=examined.known.seen)
            case GoneDecision(runs=runs, seen=seen):
                return IntakeDecision(entry, seen, cancel=runs, known=examined.known.seen)
            case CancelDecision(target=target):
                return IntakeDecision(entry, cancel=await self._of_target(entry.event.bucket, target))
            case NoDecision():
                return IntakeDecision(entry)

    async def _of_target(self, bucket: str, target: str) -> tuple[str, ...]:
        """Returns the unfinished runs of the drops that a `.cancel` names: all of that name, or the one of that key."""
        rows = await self._services.runs.unfinished_below(bucket, target)
        return tuple(row.run_id for row in rows if target in (drop_path(row.key), row.key))

    async def _delete(self, entry: InboxEntry) -> None:
        try:
            await self._services.store.delete(entry.event.bucket, entry.event.key)
        except GpuDropError as e:
            log.warning("cancel_not_deleted", key=entry.event.key, error=str(e), hint=e.info.hint)

    def _log_results(self, result: Sequence[tuple[_Examined, IntakeDecision]], started: Sequence[RunRow]) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        runs = {(run.bucket, run.key): run for run in started}
        for each, decision in result:
            run = runs.get((each.entry.event.bucket, each.entry.event.key))
            what = _name(each.outcome, new=run is not None)
            counts[each.entry.event.source, what] += 1
            for run_id in decision.cancel:
                log.info("run_cancelled", run_id=run_id, because=f"{each.entry.event.key} was {_verb(each.outcome)}")
            if run:
                log.info("run_accepted", run_id=run.run_id, key=run.key, trigger=run.trigger)
            else:
                log.debug("event_ended", bucket=each.entry.event.bucket, key=each.entry.event.key, outcome=what)
        for (source, what), n in counts.items():
            self._services.source_status.count(source, what, n)


def _pause_s(entry: InboxEntry, pauses_s: Sequence[float]) -> float:
    return pauses_s[min(entry.attempts, len(pauses_s) - 1)]


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


def _verb(outcome: Outcome) -> str:
    return "dropped" if isinstance(outcome, CancelDecision) else "deleted"
