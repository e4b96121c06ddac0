"""What a drop asks for: its own version of the manifest, or the trigger's template, with the folders' defaults."""

from __future__ import annotations

from typing import Any

import pytest

from listener.run_request import REDRIVE
from listener.runs.defaults import Refusals
from manifests.errors import (
    GpuDropError,
    ManifestTooDeep,
    ManifestTooLarge,
    ObjectDenied,
    RunCancelled,
    RunSuperseded,
    StoreUnavailable,
    UnusableKey,
)
from manifests.references import ObjectRef
from support.runs import BUCKET, RunBench

TEMPLATE: dict[str, Any] = {"operation": "transcribe"}


async def test_the_nearest_defaults_count(bench: RunBench) -> None:
    await bench.put("_gpudrop.yaml", b"transcribe: {model: small, formats: [srt]}")
    await bench.put("in/_gpudrop.yaml", b"transcribe: {model: large}")
    run = await bench.drop("in/talk", {"audio": "a.mp3", "operation": "transcribe"})
    asked = await bench.parts.reader.read(run)
    assert (asked.fields["model"], asked.fields["formats"], asked.operators) == ("large", ["srt"], ())
    assert await bench.parts.reader.read(run) == asked


async def test_defaults_that_cannot_be_read_are_told_again_and_again(bench: RunBench) -> None:
    await bench.put("in/_gpudrop.yaml", b"nonsense: 1")
    run = await bench.drop("in/talk", {"audio": "a.mp3"})
    for _ in range(2):
        with pytest.raises(GpuDropError, match="nonsense"):
            await bench.parts.reader.read(run)


async def test_a_template_is_the_operators_word(bench: RunBench) -> None:
    run = await bench.drop("in/a.mp3", b"sound", manifest=TEMPLATE)
    asked = await bench.parts.reader.read(run)
    assert (asked.operation, asked.fields["audio"], asked.text) == ("transcribe", "./a.mp3", None)
    assert "audio" in asked.operators
    assert await bench.parts.reader.callback_url(run) is None


async def test_a_large_manifest_is_read_when_its_turn_comes(bench: RunBench) -> None:
    images = [{"image": "a.jpg", "duration": 1, "id": f"{i:08}"} for i in range(2000)]
    run = await bench.drop("in/slides", {"images": images})
    asked = await bench.parts.reader.read(run)
    assert (asked.operation, len(asked.fields["images"])) == ("img2vid", 2000)


@pytest.mark.parametrize(
    ("key", "documents", "error"),
    [
        ("a/" * 65 + "talk.job.json", {}, ManifestTooDeep),
        ("a/b/c/d/e/talk.job.json", {f"{'abcde'[:n]}": 60_000 for n in range(1, 6)}, ManifestTooLarge),
        ("a/talk.job.json", {"a": 70_000}, ManifestTooLarge),
    ],
)
async def test_what_documents_cost_is_bounded(
    bench: RunBench, key: str, documents: dict[str, int], error: type[GpuDropError]
) -> None:
    for folders, size in documents.items():
        await bench.put("/".join([*folders, "_gpudrop.yaml"]), b"#" * size)
    run = await bench.drop(key, {"audio": "a.mp3"})
    with pytest.raises(error):
        await bench.parts.reader.read(run)
    assert await bench.parts.reader.callback_url(run) is None


@pytest.mark.parametrize("changes", [{}, {"manifest": TEMPLATE}], ids=["manifest", "template"])
@pytest.mark.parametrize(
    ("change", "source", "error"),
    [("removed", "test", RunCancelled), ("newer", "test", RunSuperseded), ("newer", REDRIVE, None)],
)
async def test_a_run_is_of_one_version(
    bench: RunBench, change: str, source: str, error: type[GpuDropError] | None, changes: dict[str, Any]
) -> None:
    name = "in/a.mp3" if changes else "in/talk"
    run = await bench.drop(name, {"audio": "a.mp3"}, source=source, **changes)
    bench.moment.now += 1.0
    await bench.store.delete(BUCKET, run.key)
    if change == "newer":
        await bench.put(run.key, {"audio": "b.mp3"})
    if error:
        with pytest.raises(error):
            await bench.parts.reader.read(run)
    else:
        assert (await bench.parts.reader.read(run)).operation == "transcribe"


@pytest.mark.parametrize(
    ("manifest", "defaults", "url"),
    [
        ({"callback_url": "http://h/x", "no": 1}, b"", "http://h/x"),
        ({"no": 1}, b"callback_url: http://h/y", None),
        (b"{", b"", None),
    ],
)
async def test_whoever_waits_for_a_refused_drop_is_known_from_what_can_be_read(
    bench: RunBench, manifest: Any, defaults: bytes, url: str | None
) -> None:
    if defaults:
        await bench.put("in/_gpudrop.yaml", defaults)
    run = await bench.drop("in/talk", manifest)
    assert await bench.parts.reader.callback_url(run) == url
    await bench.store.delete(BUCKET, run.key)
    assert await bench.parts.reader.callback_url(run) is None


async def test_a_drop_that_is_refused_is_the_stores_trouble_not_the_objects(bench: RunBench) -> None:
    await bench.put("in/talk.job.json")
    refusals = Refusals(bench.store)

    async def denied() -> None:
        raise ObjectDenied("No.")

    with pytest.raises(ObjectDenied):
        await refusals.outlasted(denied, ObjectRef(BUCKET, "in/talk.job.json"), 0.0)


# What a run writes and removes under keys that a newer run uses as well.


async def test_what_changes_all_the_time_is_not_written(bench: RunBench) -> None:
    run = await bench.drop("in/talk", {"audio": "a.mp3"})
    await bench.put("out/a", b"1")

    async def restart() -> None:
        await bench.put("out/a", b"2")
        bench.store.before["replace", "out/a"] = restart

    bench.store.before["replace", "out/a"] = restart
    with pytest.raises(StoreUnavailable, match="changes all the time"):
        await bench.fence.write(run, "out/a", b"mine", content_type="x/y")
    assert await bench.get("out/a") == b"2"


@pytest.mark.parametrize(("error", "sidecar"), [(ObjectDenied("No."), b""), (UnusableKey("No."), None)])
async def test_what_may_not_be_read_is_no_sidecar(bench: RunBench, error: GpuDropError, sidecar: bytes | None) -> None:
    run = await bench.drop("in/talk", {"audio": "a.mp3"})
    bench.store.problem("get", run.sidecar("done"), error)
    assert await bench.fence.sidecar(run, "done") == sidecar
    bench.store.problem("head", "out/a", error)
    assert await bench.fence.head(run, "out/a") is None
