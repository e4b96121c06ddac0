"""Defaults of folders, hostile ones among them: limited, read apart from the event loop, and once for many runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from listener.processes.parsers import DocumentParsers
from listener.run_request import RunRequest
from listener.runs.defaults import MAX_BYTES, MAX_LEVELS, DefaultsReader
from listener.runs.manifests import ManifestReader
from listener.stores.base import Store
from listener.triggers.triggers import Trigger
from manifests.errors import ManifestAliases, ManifestTooDeep, ManifestTooLarge, UnknownField
from manifests.models import MODELS
from support.hostile_documents import MANIFESTS

LATE_S = 5.0
"""What used to take two minutes."""


@pytest.fixture
async def parsers() -> AsyncIterator[DocumentParsers]:
    parsers = DocumentParsers()
    yield parsers
    await parsers.close()


async def dropped(store: Store, key: str) -> RunRequest:
    meta = await written(store, key, json.dumps({"audio": "a.mp3"}).encode())
    moment = meta.last_modified.timestamp()
    return RunRequest("run", store.buckets[0], key, meta.version, Trigger("manifests"), moment, moment, "test")


async def written(store: Store, key: str, data: bytes) -> Any:
    return await store.write(store.buckets[0], key, data, content_type="application/yaml")


async def lateness(loop_s: float, done: asyncio.Event) -> float:
    """How long the event loop did nothing else, at most, until `done`."""
    now, most = asyncio.get_running_loop().time, 0.0
    while not done.is_set():
        before = now()
        await asyncio.sleep(loop_s)
        most = max(most, now() - before - loop_s)
    return most


async def test_hostile_defaults_of_many_folders_hold_nobody_up(store: Store, parsers: DocumentParsers) -> None:
    folders = [f"{'d/' * depth}" for depth in range(1, 21)]
    costly = b"metadata:\n a: " + MANIFESTS["job.yaml"]["numbers"](MAX_BYTES - 100).partition(b"a: ")[2]
    for folder in folders:
        await written(store, f"{folder}_gpudrop.yaml", costly)
    run = await dropped(store, f"{folders[-1]}talk.job.json")
    reader = ManifestReader(store, MODELS, (), parsers=parsers)
    done = asyncio.Event()
    watch = asyncio.create_task(lateness(0.01, done))
    with pytest.raises(ManifestTooLarge, match="and of those above it have more than") as told:
        await reader.read(run)
    done.set()
    assert told.value.info.where.endswith("_gpudrop.yaml")
    assert await watch < LATE_S


async def test_defaults_that_are_too_large_or_too_deep_are_refused(store: Store, parsers: DocumentParsers) -> None:
    reader = ManifestReader(store, MODELS, (), parsers=parsers)
    await written(store, "large/_gpudrop.yaml", b"#" * (MAX_BYTES + 1))
    with pytest.raises(ManifestTooLarge, match="the most a folder's defaults may have") as told:
        await reader.read(await dropped(store, "large/talk.job.json"))
    assert told.value.info.where == "large/_gpudrop.yaml"
    with pytest.raises(ManifestTooDeep, match=f"more than {MAX_LEVELS} folders"):
        await reader.read(await dropped(store, "d/" * (MAX_LEVELS + 1) + "talk.job.json"))
    await written(store, "bomb/_gpudrop.yaml", b"metadata: &a [*a, *a]")
    with pytest.raises(ManifestAliases):
        await reader.read(await dropped(store, "bomb/talk.job.json"))


async def test_drops_at_the_deepest_level_are_read(folder_store: Store, parsers: DocumentParsers) -> None:
    run = await dropped(folder_store, "d/" * MAX_LEVELS + "talk.job.json")
    await written(folder_store, "_gpudrop.yaml", b"language: pt")
    assert (await ManifestReader(folder_store, MODELS, (), parsers=parsers).read(run)).fields["language"] == "pt"


async def test_a_document_is_read_once_for_all_runs_of_its_folder(parsers: DocumentParsers) -> None:
    reader = DefaultsReader(MODELS, parsers)
    once, again = await asyncio.gather(*(reader.read(b"language: pt", "a/_gpudrop.yaml") for _ in range(2)))
    assert once is again is await reader.read(b"language: pt", "a/_gpudrop.yaml")
    assert (await reader.read(b"language: en", "a/_gpudrop.yaml")).fields == {"language": "en"}
    for _ in range(2):
        with pytest.raises(UnknownField, match=r"In b/_gpudrop\.yaml"):
            await reader.read(b"tongue: pt", "b/_gpudrop.yaml")


async def test_what_is_kept_is_bounded(parsers: DocumentParsers) -> None:
    reader = DefaultsReader(MODELS, parsers)
    first = await reader.read(b"language: pt", "a/_gpudrop.yaml")
    for i in range(50):
        await reader.read(b"#" * (MAX_BYTES - 1), f"{i}/_gpudrop.yaml")
    assert await reader.read(b"language: pt", "a/_gpudrop.yaml") is not first
