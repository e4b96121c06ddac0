"""What a run reads of its drop, on both stores: its own version, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from listener.run_request import REDRIVE, RunRequest
from listener.runs.manifests import ManifestReader
from listener.stores.base import ObjectMeta, Store
from listener.triggers.triggers import Trigger
from manifests.errors import RunCancelled, RunSuperseded
from manifests.models import MODELS

KEYS = {"manifest": "a.job.json", "bare media": "a.mp3"}
TRIGGERS = {
    "manifest": Trigger(name="manifests"),
    "bare media": Trigger(name="audio", manifest={"operation": "transcribe"}),
}


@pytest.fixture(params=list(KEYS))
def run_of(request: pytest.FixtureRequest, store: Store) -> Callable[[ObjectMeta], RunRequest]:
    """The run of one version of a drop of each kind."""

    def make(meta: ObjectMeta) -> RunRequest:
        moment = meta.last_modified.timestamp()
        return RunRequest(
            "run", store.buckets[0], meta.key, meta.version, TRIGGERS[request.param], moment, moment, "test"
        )  # fmt: skip

    return make


@pytest.fixture
def key(run_of: object, request: pytest.FixtureRequest) -> str:
    return KEYS[request.node.callspec.params["run_of"]]


async def put(store: Store, key: str, model: str) -> ObjectMeta:
    data = json.dumps({"audio": "b.mp3", "model": model}).encode()
    return await store.write(store.buckets[0], key, data, content_type="application/json")


async def test_the_version_of_the_run_is_read(store: Store, key: str, run_of: Any) -> None:
    run = run_of(await put(store, key, "small"))
    assert (await ManifestReader(store, MODELS, ()).read(run)).operation == "transcribe"


async def test_a_newer_version_is_left_to_its_own_run(store: Store, key: str, run_of: Any) -> None:
    run = run_of(await put(store, key, "small"))
    await put(store, key, "tiny.en")
    with pytest.raises(RunSuperseded):
        await ManifestReader(store, MODELS, ()).read(run)


async def test_a_run_that_is_driven_again_takes_what_there_is(store: Store, key: str, run_of: Any) -> None:
    run = run_of(await put(store, key, "small"))
    await put(store, key, "tiny.en")
    assert (await ManifestReader(store, MODELS, ()).read(replace(run, source=REDRIVE))).operation == "transcribe"


async def test_nothing_is_read_of_what_is_gone(store: Store, key: str, run_of: Any) -> None:
    run = run_of(await put(store, key, "small"))
    await store.delete(store.buckets[0], key)
    with pytest.raises(RunCancelled):
        await ManifestReader(store, MODELS, ()).read(run)


async def test_the_same_bytes_again_are_read(store: Store, run_of: Any, key: str) -> None:
    """Whether they are another version, intake decides; in S3 they have the same ETag."""
    meta = await put(store, key, "small")
    again = await put(store, key, "small")
    read = ManifestReader(store, MODELS, ()).read(run_of(meta))
    if again.etag == meta.etag:
        assert (await read).operation == "transcribe"
    else:
        with pytest.raises(RunSuperseded):
            await read
