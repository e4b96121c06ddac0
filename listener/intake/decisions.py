"""What a key that was told of leads to, and whether the object under it is another version. Pure.

HEAD and listings give whole seconds. Within one, a store whose sequencers are nanoseconds of the last change still
tells versions apart: of the same bytes written twice, the later writing has the later moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from listener.ledger.inbox import InboxEvent
from listener.ledger.intake import KnownObjects
from listener.ledger.objects import UNSEEN, SeenVersion, fingerprint
from listener.run_request import RunRequest, run_id_of
from listener.stores.base import ObjectMeta
from listener.triggers.triggers import CancelRequest, IgnoredEvent, SkipEvent, Trigger, TriggerBook, guard_loop

SECOND_NS = 1_000_000_000


def is_same(told: InboxEvent, meta: ObjectMeta, seen: SeenVersion) -> bool:
    """Whether `meta`, what HEAD says now, is the version of `seen`."""
    if seen.fingerprint != fingerprint(meta):
        return False
    if meta.version_id is not None:
        return seen.version == meta.version
    # Written after that version, and told of since: whether the bytes are the same or HEAD's are newer still.
    return not (seen.exact and _moment(told, meta) > seen.moment)


def may_return(meta: ObjectMeta, seen: SeenVersion) -> bool:
    """Whether a version that has had a run is new all the same: another one, or none, was there in between."""
    return seen.fingerprint != fingerprint(meta) or meta.version_id is None


def seen_now(told: InboxEvent, meta: ObjectMeta, seen: SeenVersion) -> SeenVersion:
    """What is known of the version that `meta` is, after it has been looked at.

    Its moment is known for certain when the latest that was told of wrote the same bytes. If it wrote others, the
    version is a later one, since what is there now is later than whatever was told of.
    """
    moment = _moment(told, meta)
    known = SeenVersion(fingerprint(meta), seen.version, seen.moment, seen.exact)
    if not is_same(told, meta, seen):
        known = replace(known, version="", exact=False)
    if moment <= known.moment:
        return known
    return replace(known, moment=moment, exact=told.etag == meta.etag)


def _moment(told: InboxEvent, meta: ObjectMeta) -> int:
    """Of an event about another second, or with a sequencer that counts something else, nothing is believed."""
    second = int(meta.last_modified.timestamp())
    return told.moment if told.moment // SECOND_NS == second else 0


@dataclass(frozen=True, slots=True)
class RunDecision:
    """The object starts a run."""

    trigger: Trigger
    meta: ObjectMeta
    lineage: int
    seen: SeenVersion
    returns: bool = True
    """Whether it does also when a run has its id already: the same version may be dropped again."""


@dataclass(frozen=True, slots=True)
class TakenInDecision:
    """The object is known from now on, and starts nothing."""

    meta: ObjectMeta
    reason: str
    seen: SeenVersion


@dataclass(frozen=True, slots=True)
class GoneDecision:
    """Nothing is there: what was known of it is forgotten, its runs end.

    `seen` keeps the moment of the last version for a while: late events still tell of it.
    """

    runs: tuple[str, ...]
    seen: SeenVersion = UNSEEN


@dataclass(frozen=True, slots=True)
class CancelDecision:
    """A `.cancel` was dropped for `target` (folder and name of a drop); it is deleted once obeyed."""

    target: str


@dataclass(frozen=True, slots=True)
class NoDecision:
    """Nothing to remember. `reason` is one of few."""

    reason: str


Outcome = RunDecision | TakenInDecision | GoneDecision | CancelDecision | NoDecision

SAME_AGAIN = "the same version again"
LATE_NS = 3600 * SECOND_NS
"""No event tells of a version that is older than this and of the same second as the present one."""
PHANTOM = NoDecision("phantom: there is no such object")


def needs_examination(told: InboxEvent, known: KnownObjects) -> bool:
    """Whether the store must be asked. The removal of what nobody knew of costs no request."""
    return told.created or known != KnownObjects()


def decide(
    told: InboxEvent, meta: ObjectMeta | None, known: KnownObjects, triggers: TriggerBook, *, max_lineage: int
) -> Outcome:
    """`meta` is what HEAD says, None: nothing is there. Which event told does not matter: their order is uncertain."""
    if meta is None:
        return _gone(told, known)
    found = triggers.match(told.bucket, told.key)
    if isinstance(found, IgnoredEvent):
        return NoDecision(found.reason)
    if isinstance(found, CancelRequest):
        return CancelDecision(found.target)
    seen = seen_now(told, meta, known.seen)
    if is_same(told, meta, known.seen):
        return NoDecision(SAME_AGAIN) if seen == known.seen else TakenInDecision(meta, SAME_AGAIN, seen)
    return _drop(meta, seen, known, found.trigger, max_lineage)


def request_of(told: InboxEvent, run: RunDecision) -> RunRequest:
    """The run of the version that HEAD tells of: whoever looks at it, in whatever life, comes to the same id."""
    return RunRequest(
        run_id=run_id_of(told.bucket, told.key, run.meta.version),
        bucket=told.bucket,
        key=told.key,
        version=run.meta.version,
        trigger=run.trigger,
        received=told.received,
        object_time=run.meta.last_modified.timestamp(),
        source=told.source,
        lineage=run.lineage,
    )


def _gone(told: InboxEvent, known: KnownObjects) -> GoneDecision | NoDecision:
    moment = known.seen.moment
    kept = SeenVersion(moment=moment) if told.received * SECOND_NS < moment + LATE_NS else UNSEEN
    if known == KnownObjects(kept):
        return PHANTOM if told.created else NoDecision("removed, and never known")
    return GoneDecision(tuple(run.run_id for run in known.unfinished), kept)


def _drop(
    meta: ObjectMeta, seen: SeenVersion, known: KnownObjects, trigger: Trigger, max_lineage: int
) -> RunDecision | TakenInDecision:
    verdict = guard_loop(
        known.written,
        version=fingerprint(meta),
        metadata_run_id=meta.run_id,
        chain=trigger.chain,
        max_lineage=max_lineage,
    )
    if isinstance(verdict, SkipEvent):
        # Said without the run's id, so that counts stay few.
        return TakenInDecision(
            meta, "an output of a run" if verdict.reason.startswith("run ") else verdict.reason, seen
        )
    started = replace(seen, version=meta.version)
    return RunDecision(trigger, meta, verdict.lineage, started, returns=may_return(meta, known.seen))


def latest(told: Sequence[InboxEvent]) -> list[InboxEvent]:
    """One for each key: `created` when any of them was, with the latest moment that was told."""
    by_key: dict[tuple[str, str], InboxEvent] = {}
    for each in told:
        at = (each.bucket, each.key)
        before = by_key.get(at, each)
        last = each if each.created else before
        newest = max(before, each, key=lambda one: one.moment)
        by_key[at] = last if last.moment == newest.moment else replace(last, moment=newest.moment, etag=newest.etag)
    return list(by_key.values())
