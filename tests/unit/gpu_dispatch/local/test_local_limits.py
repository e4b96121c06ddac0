"""What a job on this machine may take of it, and how one that takes more ends."""

from pathlib import Path

import psutil
import pytest

from gpu_dispatch.local.limits import JobLimits, JobUsage, default_memory, excess
from support.media import Media
from support.places import local_place


@pytest.mark.parametrize("what", ["memory", "disk", "processes"])
async def test_a_job_that_takes_too_much_ends_for_good_and_alone(tmp_path: Path, media: Media, what: str) -> None:
    memory, disk = 400 * 2**20, 200 * 2**20
    settings = {"slots": {"whisper": 2}, "memory": memory, "disk": disk, "processes": 20}
    async with local_place(tmp_path, media, "odd", None, **settings) as place:
        beside = await place.backend.submit(place.odd("patient"))
        await place.until(beside, stage="patient")
        status = await place.result(place.odd(f"hoard-{what}"))
        assert status.result and status.result.error
        error = status.result.error
        assert (status.state, error.code, error.retryable) == ("failed", "resource_exhausted", False)
        assert what in error.message and error.hint
        assert (await place.backend.status(beside)).state == "running"
        assert (await place.result(place.odd("fine"))).state == "completed"
        await place.backend.cancel(beside)
        assert not any("sleep" in process.name() for process in place.workers())


def test_a_job_may_take_what_is_usual() -> None:
    used = JobUsage(memory=2**30, disk=2**30, processes=9)
    assert excess(used, JobLimits()) is None
    assert excess(used, JobLimits(2**30, 2**30, 9)) is None
    total = psutil.virtual_memory().total
    assert 2**30 <= default_memory("nvenc") <= default_memory("whisper") <= total
