"""What every source of events promises, each against the real store that tells it, by every way there is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.benches import Bench, Intake, listening
from support.deadlines import HANG_S
from support.keys import ODD_KEYS
from support.ways import WAYS, opened, ways


@pytest.fixture(params=ways())
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def fixtures(kind: str, request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """Apart from `bench`: servers are prepared while no loop runs."""
    return {name: request.getfixturevalue(name) for name in WAYS[kind].needs}


@pytest.fixture
async def bench(kind: str, fixtures: Mapping[str, Any], tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(kind, fixtures, tmp_path) as bench:
        yield bench


async def test_a_new_object_is_told_by_its_raw_key(bench: Bench) -> None:
    keys = set(ODD_KEYS) - bench.way.without.keys()
    async with listening(bench) as inbox:
        await bench.put(*keys)
        await inbox.until(lambda: set(inbox.created) >= keys)
    assert set(inbox.created) == keys
    assert {event.source for event in inbox.events} <= {source.name for source in bench.sources}


async def test_it_says_how_it_stands(bench: Bench) -> None:
    async with listening(bench) as inbox:
        for source in bench.sources:
            await inbox.until(lambda name=source.name: name in inbox.standing)
            standing = inbox.standing[source.name]
            assert standing.detail
            if source.name == bench.way.silent:
                assert (standing.ok, standing.code) == (False, "server_misbehaves")
                assert standing.hint
            else:
                assert standing.ok


async def test_an_overwrite_is_told_again_even_with_the_same_bytes(bench: Bench) -> None:
    async with listening(bench) as inbox:
        await bench.put("talk.job.yaml")
        await inbox.until(lambda: inbox.created["talk.job.yaml"])
        written, told = int(time.time()), inbox.created["talk.job.yaml"]
        # Files are dated by a clock that is some milliseconds behind.
        while bench.way.by_the_second and time.time() < written + 1.1:
            await asyncio.sleep(0.05)
        await bench.put("talk.job.yaml")
        await inbox.until(lambda: inbox.created["talk.job.yaml"] > told)


async def test_a_removal_is_told(bench: Bench) -> None:
    key = "a b+c/100%20ção.job.yaml"
    async with listening(bench) as inbox:
        await bench.put(key, "kept.job.yaml")
        await inbox.until(lambda: inbox.created[key] and inbox.created["kept.job.yaml"])
        await bench.store.delete(bench.bucket, key)
        await inbox.until(lambda: inbox.removed[key])


@pytest.mark.parametrize("kind", ways("crowds"))
async def test_two_hundred_at_once_are_all_told(bench: Bench) -> None:
    keys = {f"many/{i % 7}/{i:03}.mp3" for i in range(200)}
    async with listening(bench) as inbox:
        await bench.put(*keys)
        await inbox.until(lambda: set(inbox.created) >= keys)
    assert set(inbox.created) == keys


async def test_what_could_not_be_accepted_comes_again(bench: Bench) -> None:
    async with listening(bench.able("repeats"), failures=3) as inbox:
        await bench.put("a.mp3", "b.mp3")
        await inbox.until(lambda: set(inbox.created) == {"a.mp3", "b.mp3"})
    assert inbox.refused == 3


async def test_what_was_never_accepted_comes_to_the_next_run(bench: Bench) -> None:
    bench = bench.able("repeats", "remembers")
    async with listening(bench, failures=10**6) as inbox:
        await bench.put("a.mp3", "b.mp3")
        await inbox.until(lambda: inbox.refused)
    async with listening(bench) as inbox:
        await inbox.until(lambda: set(inbox.created) == {"a.mp3", "b.mp3"})


async def test_what_is_put_while_nobody_listens_comes_later(bench: Bench) -> None:
    bench = bench.able("remembers")
    keys = {f"meanwhile/{i}.mp3" for i in range(20)}
    async with listening(bench) as inbox:
        await bench.put("before.mp3")
        await inbox.until(lambda: inbox.created["before.mp3"])
    await bench.put(*keys)
    async with listening(bench) as inbox:
        await inbox.until(lambda: set(inbox.created) >= keys)
        await bench.put("after.mp3")
        await inbox.until(lambda: inbox.created["after.mp3"])


async def test_it_may_be_cancelled_at_any_moment_and_run_again(bench: Bench) -> None:
    for moment_s in (0.0, 0.005, 0.05, 0.3):
        inbox = Intake(bench)
        tasks = [asyncio.create_task(source.run(inbox)) for source in bench.sources]
        await asyncio.sleep(moment_s)
        for task in tasks:
            task.cancel()
        _, late = await asyncio.wait(tasks, timeout=HANG_S)
        assert not late
        assert all(task.cancelled() for task in tasks)
    async with listening(bench) as inbox:
        await bench.put("a.mp3")
        await inbox.until(lambda: inbox.created["a.mp3"])
