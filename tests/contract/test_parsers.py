"""Users' documents read apart: one that takes too much ends alone, and nobody waits for it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from listener.processes.call import CallLimits
from listener.processes.parsers import LARGE, DocumentParsers
from manifests.errors import DocumentTooCostly
from support import process_calls
from support.deadlines import HANG_S
from support.scripts import ROOT

LIMITS = CallLimits(address_space=2**29, cpu_s=2)


@pytest.fixture
async def parsers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DocumentParsers]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "tests"))))
    parsers = DocumentParsers(os.environ, limits=LIMITS, deadline_s=HANG_S)
    await parsers.open()
    yield parsers
    await parsers.close()


async def test_a_large_document_is_read_in_another_process_a_small_one_here(parsers: DocumentParsers) -> None:
    assert await parsers.run(LARGE, process_calls.pid) != os.getpid()
    assert await parsers.run(1, process_calls.pid) == os.getpid()


async def test_one_that_takes_too_much_memory_or_time_is_refused(parsers: DocumentParsers) -> None:
    with pytest.raises(DocumentTooCostly, match="needs more memory") as told:
        await parsers.run(LARGE, process_calls.hungry)
    assert told.value.info.hint and not told.value.retryable
    with pytest.raises(DocumentTooCostly, match="needs more memory"):
        await parsers.run(LARGE, len, [process_calls.Swelling()])
    with pytest.raises(DocumentTooCostly, match="was not done after 2 s of a core"):
        await parsers.run(LARGE, process_calls.busy)


async def test_one_that_waits_without_end_is_refused(
    parsers: DocumentParsers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    impatient = DocumentParsers(os.environ, limits=LIMITS, deadline_s=2.0)
    await impatient.open()
    with pytest.raises(DocumentTooCostly, match="was not done after 2 s"):
        await impatient.run(LARGE, process_calls.hanging, tmp_path / "marks")
    await impatient.close()
    assert not any(psutil.pid_exists(int(pid)) for pid in (tmp_path / "marks").read_text().split())


async def test_small_documents_and_the_engine_do_not_wait_for_costly_ones(
    parsers: DocumentParsers, tmp_path: Path
) -> None:
    """All places for larger documents are taken, by those that end only when they are let go."""
    let_go = threading.Event()
    async with asyncio.timeout(HANG_S):
        costly = [asyncio.create_task(parsers.run(LARGE - 1, let_go.wait, HANG_S)) for _ in range(20)]
        large = [asyncio.create_task(parsers.run(LARGE, process_calls.hanging, tmp_path / str(i))) for i in range(8)]
        await asyncio.sleep(0.1)
        assert await parsers.run(1, os.getpid) == await asyncio.to_thread(os.getpid) == os.getpid()
        assert not any(task.done() for task in (*costly, *large))
        let_go.set()
        for task in large:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert await asyncio.gather(*costly) == [True] * 20


async def test_large_documents_lie_in_memory_a_few_at_a_time(parsers: DocumentParsers) -> None:
    inside = most = 0

    async def held(i: int) -> None:
        nonlocal inside, most
        async with parsers.slot(LARGE, ("b", str(i % 7))):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= 1

    await asyncio.gather(*(held(i) for i in range(100)))
    assert most == 4


@pytest.mark.parametrize("size", [LARGE, None])
async def test_places_for_documents_are_never_all_of_one_folder(parsers: DocumentParsers, size: int | None) -> None:
    let_go, inside = asyncio.Event(), list[str]()

    async def held(folder: str) -> None:
        async with parsers.slot(size, ("b", folder)):
            inside.append(folder)
            await let_go.wait()

    flood = [asyncio.create_task(held("flood")) for _ in range(100)]
    await asyncio.sleep(0)
    async with asyncio.timeout(HANG_S), parsers.slot(size, ("b", "other")):
        assert set(inside) == {"flood"}
    let_go.set()
    await asyncio.gather(*flood)
