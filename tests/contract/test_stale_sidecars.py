"""Sidecars that lie where no run stands behind them any more go with the next listing, and others stay."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from listener.ledger.run_rows import RunRow, RunState
from listener.sources.reconcile.removals import StaleSidecars
from listener.sources.reconcile.source import Reconcile, ReconcileSettings
from support.held_store import RunRecords, run_records
from support.sources import Recorder, running

ONCE = ReconcileSettings(interval_s=3600.0, look_back_s=None)


class Counting:
    """A store whose requests for single objects are counted."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        if name in ("read", "head", "delete"):
            self.asked[name] += 1
        return getattr(self._store, name)


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.minio)])
def store(request: pytest.FixtureRequest) -> Counting:
    return Counting(request.getfixturevalue(f"{request.param}_store"))


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[RunRecords]:
    async for records in run_records(tmp_path):
        yield records


async def lay(store: Any, key: str, run_id: str) -> None:
    body = json.dumps({"run_id": run_id, "key": f"{key.partition('.')[0]}.job.json", "code": 200})
    await store.put(store.buckets[0], key, body.encode(), content_type="application/json")


async def record(records: RunRecords, run_id: str, state: RunState, accepted: float = 1.0) -> None:
    await records.runs.add(RunRow(run_id, "b", "k", "t", state, accepted, accepted, {}))


async def keys(store: Any) -> list[str]:
    return sorted([item.key async for item in store.list(store.buckets[0])])


async def listed(store: Any, records: RunRecords, sidecars: StaleSidecars | None = None) -> None:
    sidecars = sidecars or StaleSidecars(store, records.runs)
    source = Reconcile(store, records.objects, lambda bucket, key: False, ONCE, sidecars=sidecars)
    inbox = Recorder()
    async with running(inbox, source):
        await inbox.until(lambda: inbox.conditions)


async def test_a_status_goes_once_its_run_has_ended(store: Any, records: RunRecords) -> None:
    for state in ("done", "failed", "cancelled", "superseded", "accepted", "waiting", "running"):
        await lay(store, f"a/{state}.status.json", state)
        await record(records, state, state)
    await lay(store, "a/done.done.json", "done")
    await listed(store, records)
    left = ["a/accepted.status.json", "a/done.done.json", "a/running.status.json", "a/waiting.status.json"]
    assert await keys(store) == left


async def test_a_status_of_an_unknown_run_goes_beside_its_own_last_word_only(store: Any, records: RunRecords) -> None:
    await lay(store, "ended.status.json", "1")
    await lay(store, "ended.done.json", "1")
    await lay(store, "failed.mp3.status.json", "2")
    await lay(store, "failed.mp3.error.json", "2")
    await lay(store, "again.status.json", "4")
    await lay(store, "again.done.json", "3")
    await lay(store, "alone.status.json", "5")
    await store.put(store.buckets[0], "own.status.json", b"not ours", content_type="text/plain")
    await listed(store, records)
    left = ["again.done.json", "again.status.json", "alone.status.json", "ended.done.json"]
    assert await keys(store) == [*left, "failed.mp3.error.json", "own.status.json"]


@pytest.mark.parametrize("late", ["done", "error"])
async def test_of_two_last_words_the_older_runs_goes(store: Any, records: RunRecords, late: str) -> None:
    await record(records, "old", "superseded", accepted=1.0)
    await record(records, "new", "done", accepted=2.0)
    await lay(store, "a.done.json", "old" if late == "done" else "new")
    await lay(store, "a.error.json", "old" if late == "error" else "new")
    await lay(store, "b.done.json", "new")
    await lay(store, "b.error.json", "nobody knows")
    await listed(store, records)
    stays = "a.error.json" if late == "done" else "a.done.json"
    assert await keys(store) == sorted([stays, "b.done.json", "b.error.json"])


async def test_a_status_that_names_no_possible_run_does_not_end_the_listing(store: Any, records: RunRecords) -> None:
    for name, run_id in (("half", "\ud800"), ("nul", "a\0b"), ("long", "x" * 100_000)):
        await lay(store, f"{name}.status.json", run_id)
    await lay(store, "ended.status.json", "1")
    await record(records, "1", "done")
    await listed(store, records)
    assert await keys(store) == ["half.status.json", "long.status.json", "nul.status.json"]


async def test_a_listing_asks_for_statuses_only_and_for_each_once(store: Any, records: RunRecords) -> None:
    for number in range(40):
        await lay(store, f"{number}.done.json", f"run {number}")
        await lay(store, f"w{number}.status.json", f"waiting {number}")
        await record(records, f"waiting {number}", "waiting")
    sidecars = StaleSidecars(store, records.runs)
    await listed(store, records, sidecars)
    assert store.asked == {"read": 40}
    await listed(store, records, sidecars)
    assert store.asked == {"read": 40}
    await lay(store, "w7.status.json", "waiting 7, later")
    await records.runs.update("waiting 8", state="done", at=2.0)
    await listed(store, records, sidecars)
    assert "w8.status.json" not in await keys(store)
    # One that changed, with its finals since nobody knows its run; and the one that goes.
    assert store.asked == {"read": 40 + 1 + 2 + 1, "delete": 1}
