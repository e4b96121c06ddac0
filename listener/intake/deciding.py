"""What a key that was told of leads to. Pure: what the store and the ledger say arrives as arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from listener.ledger.inbox import Told
from listener.ledger.objects import fingerprint
from listener.ledger.settling import Known
from listener.store import ObjectMeta
from listener.triggers import CancelRequest, Ignored, Skip, Trigger, TriggerBook, guard_loop


@dataclass(frozen=True, slots=True)
class Run:
    """The object starts a run."""

    trigger: Trigger
    meta: ObjectMeta
    lineage: int


@dataclass(frozen=True, slots=True)
class TakenIn:
    """The object is known from now on, and starts nothing."""

    meta: ObjectMeta
    reason: str


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing is there: what was known of it is forgotten, its runs end."""

    runs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """A `.cancel` was dropped for `target` (folder and name of a drop); it is deleted once obeyed."""

    target: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing to remember. `reason` is one of few."""

    reason: str


Outcome = Run | TakenIn | Gone | Cancel | Nothing

SAME_AGAIN = "the same version again"
PHANTOM = Nothing("phantom: there is no such object")


def must_look(told: Told, known: Known) -> bool:
    """Whether the store must be asked. The removal of what nobody knew of costs no request."""
    return told.created or known != Known()


def decide(told: Told, meta: ObjectMeta | None, known: Known, triggers: TriggerBook, *, max_lineage: int) -> Outcome:
    """`meta` is what HEAD says, None: nothing is there. Which event told does not matter: their order is uncertain.

    With a version id, two versions may look alike to the ledger: then the run's own id says whether it is new.
    """
    if meta is None:
        return _gone(told, known)
    found = triggers.match(told.bucket, told.key)
    if isinstance(found, Ignored):
        return Nothing(found.reason)
    if isinstance(found, CancelRequest):
        return Cancel(found.target)
    if known.seen == fingerprint(meta) and meta.version_id is None:
        return Nothing(SAME_AGAIN)
    return _drop(meta, known, found.trigger, max_lineage)


def _gone(told: Told, known: Known) -> Gone | Nothing:
    if known == Known():
        return PHANTOM if told.created else Nothing("removed, and never known")
    return Gone(tuple(run.run_id for run in known.unfinished))


def _drop(meta: ObjectMeta, known: Known, trigger: Trigger, max_lineage: int) -> Run | TakenIn:
    verdict = guard_loop(
        known.written,
        version=fingerprint(meta),
        metadata_run_id=meta.run_id,
        chain=trigger.chain,
        max_lineage=max_lineage,
    )
    if isinstance(verdict, Skip):
        # Said without the run's id, so that counts stay few.
        return TakenIn(meta, "an output of a run" if verdict.reason.startswith("run ") else verdict.reason)
    return Run(trigger, meta, verdict.lineage)


def latest(told: Sequence[Told]) -> list[Told]:
    """One for each key: `created` when any of them was."""
    by_key: dict[tuple[str, str], Told] = {}
    for each in told:
        at = (each.bucket, each.key)
        if at not in by_key or each.created:
            by_key[at] = each
    return list(by_key.values())
