"""Small files that decode to gigabytes, through a real worker process: a clear word, little memory, the next job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from gpu_dispatch.task import AddAudioParams, Clip, Img2VidParams, TranscribeParams
from support.bombs import silent_flac, tiny_png, vast_mkv
from support.media import Media
from support.places import Place, local_place

LARGEST = 100_000
"""Bytes of a file that is dropped here."""
MOST = 2**30
"""Bytes that a worker and all it starts may have in memory. Each of these files once took more than twice as much."""
DISK = 200 * 2**20


@pytest.fixture
async def bounded(tmp_path: Path, media: Media) -> AsyncIterator[Place]:
    models = {"tiny": tmp_path}
    async with local_place(tmp_path, media, "real", memory=2 * MOST, disk=DISK, models=models) as place:
        yield place


class Peak:
    """The most memory that the workers of a place have had together, as often as it is looked."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.memory = 0

    async def look(self) -> None:
        while True:
            self.memory = max(self.memory, sum(map(_memory, self._place.workers())))
            await asyncio.sleep(0.05)


def _memory(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        found = process.memory_info()
        return found.rss - found.shared
    return 0


async def test_what_decodes_to_gigabytes_ends_its_own_job_alone(bounded: Place, media: Media, tmp_path: Path) -> None:
    listening = TranscribeParams(audio="a", model="tiny")
    still = Img2VidParams(clips=(Clip("a", "out.mp4", 24),), width=320, height=180)
    joined = AddAudioParams(video="a", audio="a.wav", output="out.mp4")
    sound = {"a.wav": media.tone(1.0)}
    cases: list[tuple[str, Path, object, Mapping[str, Path]]] = [
        ("image_too_large", tiny_png(tmp_path / "vast.png", 30_000, 30_000), still, {}),
        ("input_too_large", silent_flac(tmp_path / "long.flac", 14 * 3600, told_s=80 * 3600), listening, {}),
        ("resource_exhausted", silent_flac(tmp_path / "forged.flac", 14 * 3600, told_s=1), listening, {}),
        ("media_unreadable", vast_mkv(tmp_path / "vast.mkv", media), joined, sound),
    ]
    peak = Peak(bounded)
    looking = asyncio.create_task(peak.look())
    try:
        for code, path, params, more in cases:
            assert path.stat().st_size < LARGEST
            outputs = {} if params is listening else {"out.mp4": "out.mp4"}
            status = await bounded.result(bounded.task(path.name, params, {"a": path, **more}, outputs))
            assert status.result and status.result.error, path
            error = status.result.error
            assert (error.code, error.retryable) == (code, False), error
            assert error.message and error.hint
        assert (await bounded.result(bounded.join())).state == "completed"
    finally:
        looking.cancel()
    assert 0 < peak.memory < MOST
