import asyncio
import random
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from gpu_dispatch.backend import JobRef, JobStatus, follow
from gpu_dispatch.net.retries import RetryPolicy
from manifests.errors import EndpointDenied, StoreDenied, StoreUnavailable
from support.media import Media
from support.places import Place, local_place


@pytest.fixture
async def place(tmp_path: Path, media: Media) -> AsyncIterator[Place]:
    async with local_place(tmp_path, media, "odd") as place:
        yield place


async def test_a_job_is_followed_to_its_end(place: Place) -> None:
    seen: list[JobStatus] = []
    job = await place.backend.submit(place.odd("rush"))
    status = await follow(place.backend, job, on_status=seen.append, rng=random.Random(1))
    assert status.state == "completed" and seen[-1] == status
    assert all(a != b for a, b in pairwise(seen))


async def test_a_lost_job_is_final(place: Place) -> None:
    status = await follow(
        place.backend, JobRef("local", "whisper", "x"), on_status=lambda _: None, rng=random.Random(1)
    )
    assert status.state == "lost"


async def test_who_stops_following_leaves_the_job_at_work(place: Place) -> None:
    job = await place.backend.submit(place.odd("patient"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2.0):
            await follow(place.backend, job, on_status=lambda _: None, rng=random.Random(1))
    assert (await place.backend.status(job)).state in ("queued", "running")
    await place.backend.cancel(job)
    assert (await place.backend.status(job)).state == "cancelled"


class Shaky:
    """The backend behind a connection that fails now and then."""

    def __init__(self, place: Place, failures: list[Exception]) -> None:
        self._backend = place.backend
        self._failures = failures

    def __getattr__(self, name: str) -> object:
        return getattr(self._backend, name)

    async def status(self, job: JobRef, *, wait_s: float = 0.0) -> JobStatus:
        if self._failures:
            raise self._failures.pop(0)
        return await self._backend.status(job, wait_s=wait_s)


async def test_passing_trouble_is_waited_out_and_lasting_trouble_raised(place: Place) -> None:
    job = await place.backend.submit(place.odd("fine"))
    quick = RetryPolicy(0.001, 0.01)

    told: list[bool] = []

    async def followed(*failures: Exception) -> JobStatus:
        backend = Shaky(place, list(failures))
        return await follow(
            backend,  # pyright: ignore[reportArgumentType]
            job,
            on_status=lambda _: None,
            rng=random.Random(1),
            policy=quick,
            on_poll=told.append,
        )

    assert (await followed(StoreUnavailable("off"), StoreUnavailable("off"))).state == "completed"
    assert told[:3] == [False, False, True] and all(told[2:])
    assert (await followed(EndpointDenied("the key was revoked"))).state == "completed"
    with pytest.raises(StoreDenied):
        await followed(StoreDenied("no"))
