"""What a key that was told of leads to, from what the store and the ledger say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from listener.intake.decisions import (
    CancelDecision,
    GoneDecision,
    NoDecision,
    Outcome,
    RunDecision,
    TakenInDecision,
    decide,
    latest,
    needs_examination,
)
from listener.ledger.inbox import InboxEvent
from listener.ledger.intake import KnownObject
from listener.ledger.objects import SeenVersion, fingerprint
from listener.ledger.run_rows import RunRow
from listener.stores.base import ObjectMeta
from listener.triggers.triggers import MANIFESTS, Trigger, TriggerBook, WrittenKeys

KEY = "a/talk.job.yaml"
META = ObjectMeta(KEY, 3, "e1", datetime(2026, 1, 1, tzinfo=UTC))
TOLD = InboxEvent("bucket", KEY, True, "test", 1.0)
ACTIVE = RunRow("r1", "bucket", KEY, "manifests", "running", 1.0, 1.0, request={})
PLAIN = TriggerBook([MANIFESTS])
CHAINED = TriggerBook([replace(MANIFESTS, chain=True)])


UNKNOWN = KnownObject()


SEEN = SeenVersion(fingerprint(META))
STARTED = replace(SEEN, version=META.version)


def decided(
    meta: ObjectMeta | None, known: KnownObject = UNKNOWN, told: InboxEvent = TOLD, book: TriggerBook = PLAIN
) -> Outcome:
    return decide(told, meta, known, book, max_lineage=4)


def test_a_new_object_starts_a_run() -> None:
    assert decided(META) == RunDecision(MANIFESTS, META, 0, STARTED)


def test_a_version_taken_in_before_starts_nothing() -> None:
    assert decided(META, KnownObject(seen=SeenVersion(fingerprint(META)))) == NoDecision("the same version again")


def test_an_overwrite_starts_a_run_although_another_one_is_not_over() -> None:
    assert decided(META, KnownObject(seen=SeenVersion("e0@1"), unfinished=(ACTIVE,))) == RunDecision(
        MANIFESTS, META, 0, STARTED
    )


def test_versions_that_look_alike_are_told_apart_by_their_id() -> None:
    versioned = replace(META, version_id="v2")
    assert decided(versioned, KnownObject(seen=SeenVersion(fingerprint(versioned)))) == RunDecision(
        MANIFESTS, versioned, 0, replace(SEEN, version="v2"), returns=False
    )


def test_an_output_starts_nothing_unless_its_trigger_chains() -> None:
    known = KnownObject(written=WrittenKeys("r0", 1, fingerprint(META)))
    assert decided(META, known) == TakenInDecision(META, "an output of a run", SEEN)
    outcome = decided(META, known, book=CHAINED)
    assert isinstance(outcome, RunDecision)
    assert outcome.lineage == 2


def test_what_is_gone_ends_its_runs_whatever_was_told() -> None:
    known = KnownObject(seen=SeenVersion("e0@1"), unfinished=(ACTIVE,))
    for created in (True, False):
        assert decided(None, known, replace(TOLD, created=created)) == GoneDecision(("r1",))


def test_what_never_was_is_a_phantom() -> None:
    assert decided(None) == NoDecision("phantom: there is no such object")


def test_a_cancel_file_names_its_target() -> None:
    told = replace(TOLD, key="a/talk.cancel")
    assert decided(replace(META, key="a/talk.cancel"), told=told) == CancelDecision("a/talk")


def test_a_key_no_trigger_takes_any_more_starts_nothing() -> None:
    book = TriggerBook([Trigger(name="audio", suffix=".mp3", manifest={})])
    assert decided(META, book=book) == NoDecision("no trigger takes manifests here")


@pytest.mark.parametrize(
    ("created", "known", "asked"),
    [(True, KnownObject(), True), (False, KnownObject(), False), (False, KnownObject(seen=SeenVersion("x")), True)],
)
def test_the_store_is_asked_only_when_something_may_come_of_it(created: bool, known: KnownObject, asked: bool) -> None:
    assert needs_examination(replace(TOLD, created=created), known) is asked


def test_of_several_events_of_a_key_a_creation_is_kept() -> None:
    removed = replace(TOLD, created=False)
    other = replace(TOLD, key="b")
    assert latest([TOLD, removed, other]) == [TOLD, other]
    assert latest([removed, TOLD]) == [TOLD]
