"""A listener that is killed again and again between receiving and acknowledging: in the end nothing is missing."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.broker_program import RECORDING_S
from support.brokers import BENCHES, SERVERS, Bench, message
from support.deadlines import HANG_S
from support.scripts import ROOT
from support.sources import Recorder, running

MESSAGES = 2000
KILLS = 4


@pytest.fixture(params=list(BENCHES))
async def bench(request: pytest.FixtureRequest) -> Bench:
    server = request.getfixturevalue(f"{SERVERS[request.param]}_server")
    bench = BENCHES[request.param](server.host)
    await bench.prepare()
    return bench


@asynccontextmanager
async def program(bench: Bench, heard: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    command = (sys.executable, "-m", "support.broker_program", bench.kind, bench.host, bench.name, str(heard))
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, "PYTHONPATH": paths}, stderr=heard.with_suffix(".log").open("ab")
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def keys_in(heard: Path) -> set[str]:
    # A kill may cut the last line.
    return set(heard.read_text().split("\n")[:-1]) if heard.exists() else set()


async def until_heard(process: asyncio.subprocess.Process, heard: Path, n: int) -> None:
    while len(keys_in(heard)) < n:
        assert process.returncode is None, heard.with_suffix(".log").read_text()
        await asyncio.sleep(0.02)


async def test_a_listener_killed_again_and_again_loses_nothing(bench: Bench, tmp_path: Path) -> None:
    keys = [f"many/{i:05}.mp3" for i in range(MESSAGES)]
    heard = tmp_path / "heard"
    inbox = Recorder()
    async with running(inbox, bench.source()):
        await inbox.until(lambda: any(condition.ok for condition in inbox.conditions))

    async def publish() -> None:
        for at in range(0, MESSAGES, 100):
            await bench.publish([message(key) for key in keys[at : at + 100]])
            await asyncio.sleep(0.05)

    async with asyncio.timeout(HANG_S):
        publishing = asyncio.create_task(publish())
        for kill in range(KILLS):
            async with program(bench, heard) as process:
                await until_heard(process, heard, 1 + kill * MESSAGES // (2 * KILLS))
                # While it records the next ones.
                await asyncio.sleep(RECORDING_S / 2)
                process.kill()
        async with program(bench, heard) as process:
            await publishing
            await until_heard(process, heard, MESSAGES)
    assert keys_in(heard) == set(keys)
