"""A job that the provider gives to a worker once more, when the run that needed it is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from listener.dispatch.claims import ClaimStore
from listener.ledger.runs import RunLedger
from listener.runs.jobs import JobRunner
from listener.stores.s3.store import S3Store
from support.attempts import Bench, Opened, Told
from support.deadlines import HANG_S
from support.store_proxy import DENIED, StoreProxy, store_proxy
from support.stores import settings_for

pytestmark = pytest.mark.minio


@asynccontextmanager
async def refused_claims(bench: Bench, server: Any) -> AsyncGenerator[tuple[Bench, StoreProxy]]:
    """The bench, but what the listener does about claims can be refused; what its workers do cannot."""
    with store_proxy(server) as proxy:
        store = S3Store(settings_for(server, *bench.store.buckets, endpoint=proxy.endpoint))
        claims = ClaimStore(store, bench.processes, bench.keys, bench.outages, clock=time.time)
        yield replace(bench, claims=claims), proxy
        await store.close()


def of_claims(method: str, key: str) -> bool:
    return method == "PUT" and key.endswith(".claim")


@pytest.mark.parametrize("mended", [True, False], ids=["for a moment", "for good"])
async def test_nothing_is_done_twice_though_a_claim_could_not_be_withdrawn(
    opened: Opened, minio_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mended: bool
) -> None:
    """The answer keeps the job from being done as long as its claim does not."""
    works = tmp_path / "works"
    monkeypatch.setenv("ODD_WORKS", str(works))
    async with refused_claims(await opened(), minio_server) as (bench, proxy), asyncio.timeout(HANG_S):
        request = bench.request()
        runner = JobRunner(bench.attempts, bench.reaper, bench.cancellations, RunLedger(bench.database), bench.outages)
        running = asyncio.create_task(runner.run(request, Told()))
        job = await bench.take("one")
        with proxy.refusing(DENIED, of_claims):
            assert await bench.work("one", job) == ""
            outcome = await running
            assert outcome.result and not await bench.withdrawn(request)
            if not mended:
                await runner.forget(request.bucket, outcome.attempts)
        if mended:
            await runner.forget(request.bucket, outcome.attempts)
        assert await bench.work("one", job, told=False) == ("cancelled" if mended else "")
        assert works.read_text().splitlines() == ["transcribe"]
        assert await bench.withdrawn(request) is mended
        assert (await bench.claims.answer(request, 1) is None) is mended
