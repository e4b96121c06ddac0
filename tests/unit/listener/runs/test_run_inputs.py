"""The files a manifest names, and all else that is clear before a run's first job: found, waited for, refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from handlers.base import Reference
from listener.clock import Clock
from listener.fairness import turn_of
from listener.ledger.ownership import KeyClaim, OutputOwners
from listener.runs.admission import FileRoom
from listener.runs.input_search import SETTLE_S, InputGrowth, InputsAwaited, InputSearch, InputTerms, WantedInput
from listener.runs.inputs import READ_BATCH, FoundInput, InputFinder
from listener.runs.manifests import DocumentFetcher
from listener.signals import ObjectWaiters
from listener.stores.base import ObjectMeta
from manifests.errors import (
    GpuDropError,
    InputEmpty,
    InputMissing,
    InputTooLarge,
    InputUnsettled,
    ObjectDenied,
    OutOfReach,
    OutputTaken,
    RunCancelled,
    StoreDenied,
)
from manifests.references import WHOLE_BUCKET, ObjectRef, Reach, ReferencePolicy, UrlRef
from support.runs import BUCKET, NOW, Moment, RunBench, opened

AUDIO = Reference("audio", "a.mp3")
WORDS = Reference("srt", "a.srt", read=True, max_bytes=10)
DENIED = StoreDenied("It may not be read.")
FOLDER = Reach("folder")


def asking(*, wait_s: float = 600.0, reach: Reach = WHOLE_BUCKET, operators: tuple[str, ...] = ()) -> InputTerms:
    return InputTerms(ObjectRef(BUCKET, "in/talk.job.json"), "in/", NOW, wait_s, reach, operators)


async def find(bench: RunBench, *references: Reference, **options: Any) -> tuple[FoundInput, ...]:
    told: list[tuple[str, ...]] = options.pop("told", [])
    crowded: bool = options.pop("crowded", False)
    finder: InputFinder = options.pop("finder", bench.parts.finder)
    return await finder.find(references, asking(**options), waiting=told.append, crowded=lambda: crowded)


def at(key: str) -> ObjectRef:
    return ObjectRef(BUCKET, key)


async def test_what_is_there_is_found_with_its_size(bench: RunBench) -> None:
    await bench.put("in/a.mp3", b"sound")
    await bench.put("in/a.srt", b"words")
    url = Reference("video", "https://example.com/v.mp4")
    assert await find(bench, AUDIO, WORDS, url) == (
        FoundInput("audio", at("in/a.mp3"), 5),
        FoundInput("srt", at("in/a.srt"), 5),
        FoundInput("video", UrlRef("https://example.com/v.mp4"), None),
    )


Prepare = Callable[[RunBench], Awaitable[None]]


async def nothing(bench: RunBench) -> None:
    await bench.put("in/talk.job.json")


def holding(key: str, data: bytes) -> Prepare:
    async def prepare(bench: RunBench) -> None:
        await bench.put("in/talk.job.json")
        await bench.put(key, data)

    return prepare


def refusing(*keys: str, error: GpuDropError = DENIED) -> Prepare:
    async def prepare(bench: RunBench) -> None:
        await bench.put("in/talk.job.json")
        for key in keys:
            bench.store.problem("head", key, error, times=99)

    return prepare


REFUSED: dict[str, tuple[Prepare, Reference, dict[str, Any], type[GpuDropError], str]] = {
    "empty": (holding("in/a.mp3", b""), AUDIO, {}, InputEmpty, "audio"),
    "too large to read": (holding("in/a.srt", b"x" * 11), WORDS, {}, InputTooLarge, "srt"),
    "missing too long": (nothing, AUDIO, {"wait_s": 0.0}, InputMissing, "audio"),
    "an object nobody may read": (
        refusing("in/a.mp3", error=ObjectDenied("No.", where="audio")), AUDIO, {}, ObjectDenied, "audio",
    ),
    "refused too long": (refusing("in/a.mp3"), AUDIO, {"wait_s": 0.0}, ObjectDenied, "audio"),
    "refused with the drop": (refusing("in/a.mp3", "in/talk.job.json"), AUDIO, {"wait_s": 0.0}, StoreDenied, ""),
    "out of reach": (nothing, Reference("audio", "/b/a.mp3"), {"reach": FOLDER}, OutOfReach, "audio"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_used_ends_the_search(bench: RunBench, case: str) -> None:
    prepare, reference, options, error, where = REFUSED[case]
    await prepare(bench)
    with pytest.raises(error) as e:
        await find(bench, reference, **options)
    assert (type(e.value), e.value.info.where) == (error, where)


async def test_what_is_the_operators_word_leads_anywhere(bench: RunBench) -> None:
    await bench.put("b/a.mp3")
    (found,) = await find(bench, Reference("audio", "/b/a.mp3"), reach=FOLDER, operators=("audio",))
    assert found.media == at("b/a.mp3")


async def test_many_that_are_missing_are_named_in_part(bench: RunBench) -> None:
    references = [Reference(f"images[{i}].image", f"{i}.jpg") for i in range(7)]
    with pytest.raises(InputMissing) as e:
        await find(bench, *references, wait_s=0.0)
    assert "'in/4.jpg' …" in str(e.value) and "in/5.jpg" not in str(e.value)


async def test_while_one_is_missing_the_rest_is_not_looked_at(bench: RunBench) -> None:
    references = [Reference(f"images[{i}].image", f"{i}.jpg") for i in range(READ_BATCH + 1)]
    for i in range(1, READ_BATCH + 1):
        await bench.put(f"in/{i}.jpg")
    with pytest.raises(InputsAwaited) as e:
        await find(bench, *references, crowded=True)
    assert e.value.missing == {(BUCKET, "in/0.jpg")}
    assert ("head", f"in/{READ_BATCH}.jpg") not in bench.store.calls


async def test_whoever_waits_is_woken_by_an_event(bench: RunBench) -> None:
    told: list[tuple[str, ...]] = []
    search = asyncio.ensure_future(find(bench, AUDIO, told=told))
    await bench.until(lambda: told)
    await bench.put("in/a.mp3")
    bench.arrivals.report(BUCKET, "in/a.mp3")
    assert await search == (FoundInput("audio", at("in/a.mp3"), 5),)
    assert told == [("in/a.mp3",)]


async def test_a_refusal_is_told_in_words_and_outlasted(bench: RunBench) -> None:
    await bench.put("in/talk.job.json")
    await bench.put("in/a.mp3")
    bench.store.problem("head", "in/a.mp3", DENIED)
    told: list[tuple[str, ...]] = []
    search = asyncio.ensure_future(find(bench, AUDIO, told=told))
    await bench.until(lambda: told)
    assert told == [("in/a.mp3 (refused: It may not be read.)",)]
    search.cancel()
    await asyncio.wait({search})
    assert await find(bench, AUDIO) == (FoundInput("audio", at("in/a.mp3"), 5),)


async def test_links_are_followed_only_where_the_drop_reaches(bench: RunBench) -> None:
    async def real_key(key: str) -> str:
        return key.replace("link", "elsewhere")

    finder = InputFinder(
        bench.store,
        DocumentFetcher(frozenset()),
        ObjectWaiters(),
        ReferencePolicy(),
        clock=bench.parts.clock,
        grows=False,
        real_key=real_key,
    )
    for name in ("in/a.mp3", "in/link/a.mp3"):
        await bench.put(name)
    assert await find(bench, AUDIO, finder=finder, reach=FOLDER)
    wide = Reference("audio", "link/a.mp3")
    assert await find(bench, wide, finder=finder)
    assert await find(bench, wide, finder=finder, reach=FOLDER)  # still below its own folder
    out = Reach("folder", also=("link/",))
    await bench.put("link/a.mp3")
    with pytest.raises(OutOfReach):
        await find(bench, Reference("audio", "/link/a.mp3"), finder=finder, reach=out)
    with pytest.raises(OutOfReach):
        await finder.check_outputs(asking(reach=out), ["link/o.srt"], by_operator=None)
    await finder.check_outputs(asking(reach=out), ["link/o.srt", "in/o.srt"], by_operator="")
    await finder.check_outputs(asking(), ["link/o.srt"], by_operator=None)


async def test_only_what_is_to_be_read_is_read(bench: RunBench) -> None:
    await bench.put("in/a.srt", b"words")
    found = await find(bench, WORDS)
    (loaded,) = (await bench.parts.finder.load([WORDS], found, asking())).values()
    assert loaded.content == b"words"
    audio = FoundInput("audio", at("in/a.mp3"), 5)
    assert (await bench.parts.finder.load([AUDIO], [audio], asking()))["audio"].content is None


@pytest.mark.parametrize("way", ["removed", "refused", "a private address"])
async def test_what_cannot_be_read_after_all_ends_the_plan(bench: RunBench, way: str) -> None:
    await bench.put("in/talk.job.json")
    found = FoundInput("srt", at("in/a.srt"), 5)
    expected: dict[str, type[GpuDropError]] = {"removed": InputMissing, "refused": ObjectDenied}
    if way == "refused":
        bench.store.problem("get", "in/a.srt", DENIED, times=99)
    if way == "a private address":
        found = FoundInput("srt", UrlRef("http://127.0.0.1:1/a.srt"), None)
    with pytest.raises(expected.get(way, GpuDropError)):
        await bench.parts.finder.load([WORDS], [found], asking(wait_s=0.0))


def meta(version: str = "1", *, age_s: float = 0.0) -> ObjectMeta:
    return ObjectMeta("in/a.mp3", 5, version, datetime.fromtimestamp(NOW - age_s, UTC))


@pytest.mark.parametrize(
    ("looks", "grows"),
    [
        ([(0.0, meta(age_s=60.0))], [False]),
        ([(0.0, meta(age_s=-60.0))], [True]),
        ([(0.0, meta()), (1.0, meta()), (SETTLE_S, meta())], [True, True, False]),
        ([(0.0, meta()), (3.0, meta("2")), (4.0, meta("2")), (5.0, meta("2"))], [True, True, True, False]),
    ],
)
def test_a_file_grows_until_it_has_stayed_as_it_is(looks: list[tuple[float, ObjectMeta]], grows: list[bool]) -> None:
    moment = Moment()
    growth = InputGrowth(Clock(moment, moment), moment)
    found: list[bool] = []
    for after_s, look in looks:
        moment.now = NOW + after_s
        found.append(growth.grows(look))
    assert found == grows


def test_a_file_that_is_still_written_to_when_time_is_over_is_not_used() -> None:
    moment = Moment()
    search = InputSearch(asking(), InputGrowth(Clock(moment, moment), moment), moment)
    wanted = [WantedInput(AUDIO, at("in/a.mp3")), WantedInput(Reference("video", "v"), UrlRef("https://example.com/v"))]
    for second in range(5):
        moment.now = NOW + second
        search.note(wanted, [meta(str(second)), None])
        assert not search.over
        if second < 4:
            search.check(late=True)
            search.check(late=False)
    assert search.words() == ("in/a.mp3 (still being written)",)
    assert search.grows_for(4.0) and not search.grows_for(4.5)
    with pytest.raises(InputUnsettled):
        search.check(late=True)


async def test_a_growing_file_is_looked_at_again(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        bench = await opened(tmp_path, stack, grows=True)
        await bench.put("in/a.mp3")
        search = asyncio.ensure_future(find(bench, AUDIO))
        await bench.until(lambda: ("head", "in/a.mp3") in bench.store.calls)
        assert not search.done()
        search.cancel()
        await asyncio.wait({search})
        bench.moment.now += 60.0
        assert await find(bench, AUDIO) == (FoundInput("audio", at("in/a.mp3"), 5),)


# What a run does with it.


async def test_a_run_that_waits_for_an_input_ends_when_it_is_cancelled(bench: RunBench) -> None:
    run = await bench.drop("in/talk", {"audio": "a.mp3"})
    telling = asyncio.ensure_future(bench.tell(run))
    await bench.until(lambda: ("head", "in/a.mp3") in bench.store.calls)
    bench.parts.cancellations.request(run.run_id, "cancelled")
    await telling
    assert (await bench.failed(run))["code"] == RunCancelled.code


async def test_what_belongs_to_another_drop_is_not_written(bench: RunBench) -> None:
    await bench.put("in/a.mp3")
    first = await bench.drop("in/one", {"audio": "a.mp3", "path": "/out/"})
    await bench.tell(first)
    second = await bench.drop("in/two", {"audio": "a.mp3", "path": "/out/"})
    await bench.tell(second)
    assert (await bench.failed(second))["code"] == OutputTaken.code
    assert bench.attempts.made == [(0, 1)]
    # Once the first drop is gone, what it wrote is anybody's.
    await bench.store.delete(BUCKET, first.key)
    third = await bench.drop("in/three", {"audio": "a.mp3", "path": "/out/"})
    await bench.tell(third)
    await bench.done(third)


async def test_a_key_that_is_about_to_be_free_is_waited_for(bench: RunBench) -> None:
    await bench.put("in/a.mp3")
    first = await bench.drop("in/one", {"audio": "a.mp3"})
    claim = KeyClaim(first.run_id, first.key, 0)
    await OutputOwners(bench.database).claim(BUCKET, ["out/segments.srt"], claim)
    await bench.runs.request_end(first.run_id, "cancelled")
    second = await bench.drop("in/two", {"audio": "a.mp3", "path": "/out/", "formats": ["srt"]})
    telling = asyncio.ensure_future(bench.tell(second))

    async def waits() -> bool:
        status = await bench.document(second, "status")
        return bool(status and "the end of in/one.job.json" in str(status["waiting_for"]))

    await bench.eventually(waits)
    await bench.objects.release_claims(BUCKET, first.run_id)
    await telling
    await bench.done(second)


async def test_a_long_list_waits_for_its_room(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        room = FileRoom(1500)
        bench = await opened(tmp_path, stack, split=50, room=room)
        await bench.put("in/a.jpg")
        run = await bench.drop("in/slides", {"images": [{"image": "a.jpg", "duration": 1}] * 1001})
        turn = turn_of(BUCKET, "in/other.job.json")
        assert room.try_acquire(750, turn)
        telling = asyncio.ensure_future(bench.tell(run))

        async def waits() -> bool:
            status = await bench.document(run, "status")
            return bool(status and "room for a list of 1,001 files" in str(status["waiting_for"]))

        await bench.eventually(waits)
        room.release(750, turn)
        await telling
        await bench.done(run)
        # The run has given its part back, to whoever asks next.
        await bench.tell(await bench.drop("in/other", {"images": [{"image": "a.jpg", "duration": 1}] * 1001}))
        assert room.try_acquire(750, turn)


@pytest.mark.parametrize(
    ("changes", "manifest", "code"),
    [
        ({"reach": FOLDER}, {"path": "/out/"}, OutOfReach.code),
        ({"reach": FOLDER}, {"path": "below/"}, ""),
        ({}, {"path": "../../x/"}, "invalid_path"),
        ({"manifest": {"operation": "transcribe", "path": "../out/"}, "reach": FOLDER}, None, ""),
    ],
)
async def test_outputs_lie_where_the_drop_may_write(
    bench: RunBench, changes: dict[str, Any], manifest: dict[str, Any] | None, code: str
) -> None:
    await bench.put("in/a.mp3")
    name = "in/talk" if manifest is not None else "in/b.mp3"
    run = await bench.drop(name, {"audio": "a.mp3", **manifest} if manifest is not None else b"sound", **changes)
    await bench.tell(run)
    if code:
        assert (await bench.failed(run))["code"] == code
    else:
        await bench.done(run)


async def test_a_run_whose_records_were_lost_ends_as_its_sidecar_says_and_calls_back(bench: RunBench) -> None:
    await bench.put("in/a.mp3")
    run = await bench.drop("in/talk", {"audio": "a.mp3", "callback_url": "http://127.0.0.1:1/"})
    await bench.tell(run)
    sidecar = await bench.done(run)
    await bench.put(run.sidecar("done"), {**sidecar, "callback": {"state": "waiting", "attempts": 1}})
    bench.records.clear()
    await bench.tell(run)
    assert bench.attempts.made == [(0, 1)]
    assert bench.records[run.run_id].names[0] == "prepare"
