"""Outputs of runs that a lost ledger knew are known again, whatever else is taken in meanwhile."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from listener.ledger.inbox import InboxLedger, Told
from listener.ledger.objects import Seen
from listener.ledger.settling import Settlement, Settling
from listener.sources.listing.earlier_outputs import EarlierOutputs
from support.held_store import RunRecords, run_records

DONE = {"run_id": "r1", "key": "talk.mp3", "code": 200, "outputs": [{"key": "talk.mp4"}]}


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[RunRecords]:
    async for records in run_records(tmp_path):
        yield records


async def take_in(records: RunRecords, bucket: str, key: str) -> None:
    """As an event does that comes before the first listing."""
    (item,) = await InboxLedger(records.database, "m1").add([Told(bucket, key, True, "test", 1.0)], hold=True)
    await Settling(records.database).settle([Settlement(item, Seen("e@1", "v1"))], reason="cancelled")


@pytest.mark.parametrize("first", [True, False])
async def test_an_event_before_the_first_listing_hides_nothing(
    folder_store: Any, records: RunRecords, first: bool
) -> None:
    (bucket,) = folder_store.buckets
    await folder_store.put(bucket, "talk.done.json", json.dumps(DONE).encode(), content_type="application/json")
    await folder_store.put(bucket, "talk.mp4", b"film", content_type="video/mp4")
    if not first:
        await take_in(records, bucket, "known.mp3")
    earlier = EarlierOutputs(folder_store, records.objects)
    await earlier.begin([bucket])
    await take_in(records, bucket, "new.mp3")
    await earlier.learn(bucket, [""], None)
    written = await records.objects.written(bucket, "talk.mp4")
    assert (written is not None and written.run_id == "r1") == first
