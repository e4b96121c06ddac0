"""The same event again and again, through the real inbox, engine and store: one run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from listener.app.app import App, running
from listener.config.environment import Environment
from listener.config.loader import parse_config
from listener.events.event import ObjectCreated, ObjectRemoved
from listener.stores.base import Store
from support.deadlines import HANG_S
from support.installation import SAMPLES

MUX = json.dumps({"video": "clip.mp4", "audio": "chord.ogg", "output_filename": "out.mp4"}).encode()


async def until_all_ended(app: App, name: str) -> None:
    """Everything told before: keys are looked at in order, so a last drop is taken up after them."""
    await put(app.store, name, b"no manifest")
    await app.inbox.accept([ObjectCreated("drop", name, "test")])
    async with asyncio.timeout(HANG_S):
        while not await app.runs.matching(name) or await app.runs.unfinished():
            await asyncio.sleep(0.05)


async def put(store: Store, key: str, data: bytes) -> None:
    await store.write("drop", key, data, content_type="application/octet-stream")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "drop"


async def test_three_deliveries_are_one_run(root: Path) -> None:
    config = parse_config({"store": {"kind": "folder", "root": str(root)}, "sources": ["reconcile"]}, origin="test")
    async with running(config, Environment()) as app:
        for name in ("clip.mp4", "chord.ogg"):
            await put(app.store, name, (SAMPLES / "media" / name).read_bytes())
        await put(app.store, "a.job.json", MUX)
        event = ObjectCreated("drop", "a.job.json", "test")
        await app.inbox.accept([event, event])
        await app.inbox.accept([event])
        await until_all_ended(app, "x.job.json")
        await app.inbox.accept([event])
        await until_all_ended(app, "y.job.json")
        runs = await app.runs.recent(10)
        assert [(r.key, r.state) for r in runs] == [
            ("y.job.json", "failed"),
            ("x.job.json", "failed"),
            ("a.job.json", "done"),
        ]


async def test_events_that_lead_nowhere(root: Path) -> None:
    config = parse_config({"store": {"kind": "folder", "root": str(root)}, "sources": ["reconcile"]}, origin="test")
    async with running(config, Environment()) as app:
        await put(app.store, "back.job.json", MUX)
        await app.inbox.accept(
            [
                ObjectCreated("drop", "phantom.job.json", "test"),
                ObjectCreated("drop", "a//b.job.json", "test"),
                ObjectCreated("drop", "../up.job.json", "test"),
                ObjectCreated("drop", "folder/", "test"),
                ObjectCreated("drop", "x.done.json", "test"),
                ObjectCreated("drop", "_dlq/2026/01/01/x.job.json", "test"),
                ObjectCreated("drop", "picture.png", "test"),
                ObjectRemoved("drop", "back.job.json", "test"),
                ObjectRemoved("drop", "never-there.job.json", "test"),
            ]
        )
        await until_all_ended(app, "x.job.json")
        assert [r.key for r in await app.runs.recent(10)] == ["x.job.json"]


async def test_a_drop_that_is_deleted_while_nobody_hears_of_it_is_cancelled(root: Path) -> None:
    """Only listing is at work: stores without events, and removals told during a gap."""
    document = {
        "store": {"kind": "folder", "root": str(root)},
        "sources": ["reconcile"],
        "reconcile": {"interval": "0.2s"},
    }
    async with running(parse_config(document, origin="test"), Environment()) as app:
        await put(app.store, "a.job.json", MUX)
        async with asyncio.timeout(HANG_S):
            while [r.state for r in await app.runs.recent(10)] != ["waiting"]:
                await asyncio.sleep(0.05)
            await app.store.delete("drop", "a.job.json")
            while [r.state for r in await app.runs.recent(10)] != ["cancelled"]:
                await asyncio.sleep(0.05)
