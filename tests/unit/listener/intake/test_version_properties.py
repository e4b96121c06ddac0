"""Any history of one key, told late, twice, in any order or not at all: each version runs, and none of them twice."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from hypothesis import example, given, settings
from hypothesis import strategies as st

from listener.intake.decisions import (
    GoneDecision,
    RunDecision,
    TakenInDecision,
    decide,
    latest,
    needs_examination,
    request_of,
)
from listener.ledger.inbox import InboxEvent
from listener.ledger.intake import KnownObject
from listener.ledger.objects import UNSEEN, SeenVersion, fingerprint
from listener.ledger.run_rows import RunRow
from listener.run_request import run_row, with_new_version_id
from listener.stores.base import ObjectMeta
from listener.triggers.triggers import MANIFESTS, TriggerBook

KEY = "a.job.json"
START_NS = 1_800_000_000_000_000_000
BOOK = TriggerBook([MANIFESTS])


@dataclass(frozen=True)
class Step:
    """`after_ms` of the last one. `which` picks among what may be told; a listing asks only when it sees news."""

    what: Literal["put", "delete", "tell", "list"]
    after_ms: int
    content: str
    which: int


STEPS = st.lists(
    st.builds(
        Step,
        what=st.sampled_from(("put", "put", "delete", "tell", "tell", "tell", "list")),
        after_ms=st.integers(1, 400),
        content=st.sampled_from("AB"),
        which=st.integers(0, 99),
    ),
    max_size=24,
)


@dataclass
class World:
    """A store that gives whole seconds, and a ledger. `moments`: its events have sequencers that are nanoseconds."""

    moments: bool
    now_ns: int = START_NS
    there: tuple[str, int] | None = None
    events: list[tuple[str, int] | None] = field(default_factory=list[tuple[str, int] | None])
    seen: SeenVersion = UNSEEN
    runs: dict[str, str] = field(default_factory=dict[str, str])
    """What each run read, in order."""
    open: set[str] = field(default_factory=set[str])
    puts: Counter[str] = field(default_factory=Counter[str])

    def do(self, step: Step) -> None:
        self.now_ns += step.after_ms * 1_000_000
        match step.what:
            case "put":
                self.there = (step.content, self.now_ns)
                self.puts[step.content] += 1
                self.events.append(self.there)
            case "delete":
                self.there = None
                self.events.append(None)
            case "tell":
                # One, or it and its neighbours in one batch.
                if self.events:
                    first = step.which % len(self.events)
                    self.look([self.told(event) for event in self.events[first : first + 1 + step.which % 3]])
            case "list":
                self.list()

    def told(self, event: tuple[str, int] | None) -> InboxEvent:
        moment, etag = (event[1], event[0]) if event and self.moments else (0, "")
        return InboxEvent("b", KEY, event is not None, "test", self.now_ns / 1e9, moment, etag)

    def list(self) -> None:
        if self.there is None and (self.seen != UNSEEN or self.open):
            self.look([self.told(None)])
        elif (meta := self.meta()) and fingerprint(meta) != self.seen.fingerprint:
            self.look([InboxEvent("b", KEY, True, "listing", self.now_ns / 1e9)])

    def meta(self) -> ObjectMeta | None:
        if self.there is None:
            return None
        etag, at_ns = self.there
        return ObjectMeta(KEY, 1, etag, datetime.fromtimestamp(at_ns // 1_000_000_000, UTC))

    def look(self, events: list[InboxEvent]) -> None:
        (told,) = latest(events)
        unfinished = tuple(RunRow(r, "b", KEY, "manifests", "running", 1.0, 1.0, request={}) for r in sorted(self.open))
        known = KnownObject(self.seen, unfinished=unfinished)
        meta = self.meta() if needs_examination(told, known) else None
        match decide(told, meta, known, BOOK, max_lineage=4):
            case RunDecision() as run:
                request = request_of(told, run)
                row = run_row(request, 1.0)
                if row.run_id in self.runs and run.returns:
                    row = run_row(with_new_version_id(request, run.seen), 1.0)
                assert row.run_id not in self.runs
                self.runs[row.run_id] = run.meta.etag
                self.open = {row.run_id}
                self.seen = run.seen
            case TakenInDecision(seen=seen):
                self.seen = seen
            case GoneDecision(runs=runs, seen=seen):
                self.open -= set(runs)
                self.seen = seen
            case _:
                pass

    def check(self) -> None:
        """The last run is that of what is there; of no content there were more runs than puts."""
        if self.there is None:
            assert not self.open
        else:
            last = list(self.runs)[-1]
            assert self.open == {last}
            assert self.runs[last] == self.there[0]
        assert not Counter(self.runs.values()) - self.puts


@settings(max_examples=600, deadline=None)
@given(steps=STEPS, moments=st.booleans())
def test_a_listing_at_the_end_sets_all_right(steps: list[Step], moments: bool) -> None:
    world = World(moments)
    for step in steps:
        world.do(step)
    world.list()
    world.check()


OLD_EVENT_AFTER_REMOVAL = [
    Step("put", 1, "A", 0),
    Step("tell", 1, "A", 0),
    Step("delete", 1, "A", 0),
    Step("tell", 1, "A", 3),
    Step("put", 1, "A", 0),
    Step("tell", 1, "A", 0),
]
"""Told of its first writing, the second one is run; told of its own, it is not run again."""


@settings(max_examples=600, deadline=None)
@example(steps=OLD_EVENT_AFTER_REMOVAL, moments=True, order=random.Random(1))
@given(steps=STEPS, moments=st.booleans(), order=st.randoms(use_true_random=False))
def test_events_that_are_told_again_start_nothing(steps: list[Step], moments: bool, order: random.Random) -> None:
    world = World(moments)
    for step in steps:
        world.do(step)
    late = [world.told(event) for event in world.events]
    order.shuffle(late)
    for each in late:
        world.look([each])
    world.check()
    before = dict(world.runs)
    order.shuffle(late)
    for each in late * 2:
        world.look([each])
    world.check()
    assert world.runs == before
