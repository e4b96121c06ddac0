"""What a worker left that is larger than it may be, on every store: removed, told, and nobody else's file with it."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest

from gpu_dispatch.output_sizes import SMALLEST_LIMIT, largest_clip, largest_from, largest_looped
from gpu_dispatch.task import AddAudioParams, Clip, Img2VidParams, TaskParams
from handlers.base import PlannedTask, TaskFile, TaskTarget
from listener.dispatch.output_sizes import OutputSizes
from listener.dispatch.request import JobRequest
from listener.outages import OutageRetry
from listener.stores.base import Store
from manifests.errors import ResourceExhausted
from manifests.references import ObjectRef, UrlRef

MOST = 1000


def sizes_of(store: Store, *limits: int) -> OutputSizes:
    return OutputSizes(store, OutageRetry(random.Random(1)), *limits)


def request(store: Store, params: TaskParams, names: Sequence[str], *files: TaskFile) -> JobRequest:
    targets = tuple(TaskTarget(name, f"films/{name}", "video/mp4") for name in names)
    return JobRequest(
        run_id="r", bucket=store.buckets[0], key="k", index=0, count=1, task=PlannedTask(params, files, targets),
        max_attempts=1, trigger="t", operation="img2vid", give_up=0.0,
    )  # fmt: skip


def clips(*names: str) -> Img2VidParams:
    return Img2VidParams(clips=tuple(Clip("i", name, 24) for name in names))


async def left(store: Store, name: str, size: int) -> None:
    await store.put(store.buckets[0], f"films/{name}", b"x" * size, content_type="video/mp4")


async def there(store: Store, *names: str) -> list[str]:
    return [name for name in names if await store.head(store.buckets[0], f"films/{name}")]


async def test_an_output_over_its_limit_is_removed_and_told(store: Store) -> None:
    names = ("a.mp4", "b.mp4", "c.mp4", "d.mp4")
    asked, sizes = request(store, clips(*names), names), sizes_of(store, MOST)
    began = time.time()
    for name, size in zip(names, (MOST, 10 * MOST, 1), strict=False):
        await left(store, name, size)
    with pytest.raises(ResourceExhausted) as caught:
        await sizes.check(asked, began)
    assert caught.value.info.where == "films/b.mp4" and not caught.value.retryable
    assert await there(store, *names) == ["a.mp4", "c.mp4"]
    await sizes.check(asked, began)


async def test_a_failed_attempt_leaves_nothing_large_but_what_was_there_before(store: Store) -> None:
    names = ("old.mp4", "new.mp4")
    asked, sizes = request(store, clips(*names), names), sizes_of(store, MOST)
    await left(store, "old.mp4", 10 * MOST)
    meta = await store.head(store.buckets[0], "films/old.mp4")
    assert meta
    await sizes.clean(asked, meta.last_modified.timestamp() + 60)
    assert await there(store, *names) == ["old.mp4"]
    await left(store, "new.mp4", 10 * MOST)
    await sizes.clean(request(store, clips("new.mp4"), ("new.mp4",)), time.time())
    assert await there(store, *names) == ["old.mp4"]


async def test_limits_are_those_of_the_worker(folder_store: Store) -> None:
    """What a worker that heeds its task's limits may write is never removed."""
    joining = AddAudioParams(video="v", audio="a", output="o")
    here, web = ObjectRef("b", "v"), UrlRef("https://a.example/v")
    for files, inputs in (
        ((TaskFile("v", here, 700), TaskFile("a", here, 300)), 1000),
        ((TaskFile("v", here, 700), TaskFile("a", web, None)), 5000),
    ):
        found = sizes_of(folder_store, 0, 5000).largest(request(folder_store, joining, ("o",), *files).task)
        assert found == {"o": largest_from(inputs)}
    looping = AddAudioParams(video="v", audio="a", output="o", fit="audio")
    for audio, inputs, sound in ((TaskFile("a", here, 300), 1000, 300), (TaskFile("a", web, None), 5000, 5000)):
        asked = request(folder_store, looping, ("o",), TaskFile("v", here, 700), audio)
        assert sizes_of(folder_store, 0, 5000).largest(asked.task) == {"o": largest_looped(inputs, sound)}
        assert sizes_of(folder_store, MOST).largest(asked.task) == {"o": MOST}
    film = request(folder_store, clips("o"), ("o",), TaskFile("i", here, 5)).task
    assert sizes_of(folder_store).largest(film) == {"o": largest_clip(24, 1920, 1080)}
    assert sizes_of(folder_store, MOST).largest(film) == {"o": MOST}
    assert largest_from(0) == SMALLEST_LIMIT and largest_from(10, 9) == 9
