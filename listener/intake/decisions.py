"""Decides what a reported key leads to, and whether its object is another version. Pure.

HEAD and listings give whole seconds. Stores whose sequencers are the nanosecond of the last change distinguish versions
within a second: when the same bytes are written twice, the later write has the later moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from listener.ledger.inbox import InboxEvent
from listener.ledger.intake import KnownObject
from listener.ledger.objects import UNSEEN, SeenVersion, fingerprint
from listener.run_request import RunRequest, run_id_of
from listener.stores.base import ObjectMeta
from listener.triggers.triggers import CancelRequest, IgnoredEvent, SkipEvent, Trigger, TriggerBook, guard_loop

SECOND_NS = 1_000_000_000


def is_same(event: InboxEvent, meta: ObjectMeta, seen: SeenVersion) -> bool:
    """Returns whether `meta`, the present answer of HEAD, is the version of `seen`."""
    if seen.fingerprint != fingerprint(meta):
        return False
    if meta.version_id is not None:
        return seen.version == meta.version
    # An event of a later write in that second: another version, whether it wrote the same bytes or HEAD is newer still.
    return not (seen.exact and _moment(event, meta) > seen.moment)


def may_return(meta: ObjectMeta, seen: SeenVersion) -> bool:
    """Returns whether a version that had a run may have another: another version, or none, was there in between."""
    return seen.fingerprint != fingerprint(meta) or meta.version_id is None


def seen_now(event: InboxEvent, meta: ObjectMeta, seen: SeenVersion) -> SeenVersion:
    """Returns what is known of the version of `meta` after it has been examined.

    Its moment is exact when the latest reported write has the same ETag. Otherwise the version is a later one, since
    the present object is at least as new as every reported write.
    """
    moment = _moment(event, meta)
    known = SeenVersion(fingerprint(meta), seen.version, seen.moment, seen.exact)
    if not is_same(event, meta, seen):
        known = replace(known, version="", exact=False)
    if moment <= known.moment:
        return known
    return replace(known, moment=moment, exact=event.etag == meta.etag)


def _moment(event: InboxEvent, meta: ObjectMeta) -> int:
    """Returns the event's moment; 0 where it lies in another second, or its sequencer counts something else."""
    second = int(meta.last_modified.timestamp())
    return event.moment if event.moment // SECOND_NS == second else 0


@dataclass(frozen=True, slots=True)
class RunDecision:
    """The object starts a run."""

    trigger: Trigger
    meta: ObjectMeta
    lineage: int
    seen: SeenVersion
    returns: bool = True
    """Whether it does so even when its run id is taken: the same version may be dropped again."""


@dataclass(frozen=True, slots=True)
class TakenInDecision:
    """The object is recorded as seen and starts nothing."""

    meta: ObjectMeta
    reason: str
    seen: SeenVersion


@dataclass(frozen=True, slots=True)
class GoneDecision:
    """No object is there: what was known of it is forgotten, and its runs end."""

    runs: tuple[str, ...]
    seen: SeenVersion = UNSEEN
    """Keeps the moment of the last version for a while, because late events still report it."""


@dataclass(frozen=True, slots=True)
class CancelDecision:
    """A `.cancel` file was dropped; it is deleted once the runs are cancelled."""

    target: str
    """Folder and name of the drop."""


@dataclass(frozen=True, slots=True)
class NoDecision:
    """There is nothing to record but the end of the inbox entry."""

    reason: str
    """One of few: it is counted."""


Outcome = RunDecision | TakenInDecision | GoneDecision | CancelDecision | NoDecision

SAME_AGAIN = "the same version again"
LATE_NS = 3600 * SECOND_NS
"""Age of a version in nanoseconds from which on no late event is expected to report it."""
PHANTOM = NoDecision("phantom: there is no such object")


def needs_examination(event: InboxEvent, known: KnownObject) -> bool:
    """Returns whether the store must be asked. The removal of an unknown key costs no request."""
    return event.created or known != KnownObject()


def decide(
    event: InboxEvent, meta: ObjectMeta | None, known: KnownObject, triggers: TriggerBook, *, max_lineage: int
) -> Outcome:
    """Decides by `meta`, HEAD's answer (None: no object), not by the kind of event: their order is uncertain."""
    if meta is None:
        return _gone(event, known)
    found = triggers.match(event.bucket, event.key)
    if isinstance(found, IgnoredEvent):
        return NoDecision(found.reason)
    if isinstance(found, CancelRequest):
        return CancelDecision(found.target)
    seen = seen_now(event, meta, known.seen)
    if is_same(event, meta, known.seen):
        return NoDecision(SAME_AGAIN) if seen == known.seen else TakenInDecision(meta, SAME_AGAIN, seen)
    return _drop(meta, seen, known, found.trigger, max_lineage)


def request_of(event: InboxEvent, run: RunDecision) -> RunRequest:
    """Returns the run of the version that HEAD reports; its id is the same in every listener and after a restart."""
    return RunRequest(
        run_id=run_id_of(event.bucket, event.key, run.meta.version),
        bucket=event.bucket,
        key=event.key,
        version=run.meta.version,
        trigger=run.trigger,
        received=event.received,
        object_time=run.meta.last_modified.timestamp(),
        source=event.source,
        lineage=run.lineage,
    )


def _gone(event: InboxEvent, known: KnownObject) -> GoneDecision | NoDecision:
    moment = known.seen.moment
    kept = SeenVersion(moment=moment) if event.received * SECOND_NS < moment + LATE_NS else UNSEEN
    if known == KnownObject(kept):
        return PHANTOM if event.created else NoDecision("removed, and never known")
    return GoneDecision(tuple(run.run_id for run in known.unfinished), kept)


def _drop(
    meta: ObjectMeta, seen: SeenVersion, known: KnownObject, trigger: Trigger, max_lineage: int
) -> RunDecision | TakenInDecision:
    verdict = guard_loop(
        known.written,
        version=fingerprint(meta),
        metadata_run_id=meta.run_id,
        chain=trigger.chain,
        max_lineage=max_lineage,
    )
    if isinstance(verdict, SkipEvent):
        # Without the run's id, so that there are few counts.
        return TakenInDecision(
            meta, "an output of a run" if verdict.reason.startswith("run ") else verdict.reason, seen
        )
    started = replace(seen, version=meta.version)
    return RunDecision(trigger, meta, verdict.lineage, started, returns=may_return(meta, known.seen))


def latest(events: Sequence[InboxEvent]) -> list[InboxEvent]:
    """Returns one event for each key: `created` when any of its events is, with the latest moment of them."""
    by_key: dict[tuple[str, str], InboxEvent] = {}
    for each in events:
        at = (each.bucket, each.key)
        before = by_key.get(at, each)
        last = each if each.created else before
        newest = max(before, each, key=lambda one: one.moment)
        by_key[at] = last if last.moment == newest.moment else replace(last, moment=newest.moment, etag=newest.etag)
    return list(by_key.values())
