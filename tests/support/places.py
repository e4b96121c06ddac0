"""Places that run tasks, all alike to a test: a backend, a way for files in and out, the processes it has."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
import pytest

from gpu_dispatch.backend import GpuBackend, JobRef, JobStatus
from gpu_dispatch.local import LocalBackend, LocalSettings
from gpu_dispatch.task import AddAudioParams, Clip, GpuTask, Img2VidParams, TaskInput, TaskOutput, TranscribeParams
from support.media import Media
from support.processes import Started

HANG_S = 90.0
"""No wait of these tests comes near it, unless something hangs."""

Operations = Literal["real", "odd"]


@dataclass
class Place:
    backend: GpuBackend
    media: Media
    root: Path
    seen: list[JobStatus] = field(default_factory=list)
    started: Started = field(default_factory=Started)

    def address(self, path: Path) -> str:
        """Where the worker finds a copy of `path`."""
        copy = self.root / path.name
        if not copy.exists():
            shutil.copyfile(path, copy)
        return copy.as_uri()

    def target(self, name: str) -> str:
        return (self.root / "out" / name).as_uri()

    def output(self, name: str) -> Path:
        return self.root / "out" / name

    def workers(self) -> list[psutil.Process]:
        """Every process that works for this place: what this process has started since the place was opened."""
        return self.started()

    def odd(self, what: str, *, timeout_s: float = 60.0) -> GpuTask:
        return GpuTask(f"odd-{what}", TranscribeParams(audio="a", model=what), (), timeout_s=timeout_s)

    def join(self, name: str = "joined.mp4") -> GpuTask:
        """Quick: one second of picture and sound put together."""
        return GpuTask(
            "join",
            AddAudioParams("v.mp4", "a.wav", "out.mp4"),
            (
                TaskInput("v.mp4", self.address(self.media.video(1.0))),
                TaskInput("a.wav", self.address(self.media.tone(1.0))),
            ),
            (TaskOutput("out.mp4", self.target(name), "video/mp4"),),
        )

    def film(self, *, frames: int, timeout_s: float = 600.0, name: str = "film.mp4") -> GpuTask:
        """An image in motion; a hundred thousand frames take far longer than any test."""
        return GpuTask(
            "film",
            Img2VidParams((Clip("i.jpg", "clip.mp4", frames),), width=320, height=180),
            (TaskInput("i.jpg", self.address(self.media.image(suffix=".jpg"))),),
            (TaskOutput("clip.mp4", self.target(name), "video/mp4"),),
            timeout_s=timeout_s,
        )

    async def until(self, job: JobRef, *, stage: str = "", final: bool = False) -> JobStatus:
        """Waits for `stage` of a running job, or for its end; keeps what it saw."""
        wait_s = 0.0
        while True:
            status = await self.backend.status(job, wait_s=wait_s)
            wait_s = HANG_S
            self.seen.append(status)
            there = stage and status.progress and status.progress.stage == stage
            if status.final or (there and not final):
                return status

    async def result(self, task: GpuTask) -> JobStatus:
        return await self.until(await self.backend.submit(task), final=True)


@asynccontextmanager
async def local_place(
    folder: Path, media: Media, operations: Operations, environ: Mapping[str, str] | None = None, **settings: object
) -> AsyncIterator[Place]:
    root = folder / "root"
    root.mkdir()
    given = LocalSettings(
        file_root=root,
        work_parent=folder / "work",
        python=sys.executable if operations == "real" else str(_odd_python(folder)),
        **settings,  # pyright: ignore[reportArgumentType]
    )
    place = Place(LocalBackend(given, environ=os.environ if environ is None else environ), media, root)
    await place.backend.start()
    try:
        yield place
    finally:
        await place.backend.close()


PLACES = {"local": local_place}


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, tmp_path: Path, media: Media) -> AsyncIterator[Place]:
    async with PLACES[request.param](tmp_path, media, "real") as place:
        yield place


@pytest.fixture(params=PLACES)
async def odd_place(request: pytest.FixtureRequest, tmp_path: Path, media: Media) -> AsyncIterator[Place]:
    async with PLACES[request.param](tmp_path, media, "odd") as place:
        yield place


def _odd_python(folder: Path) -> Path:
    """A python that runs the odd worker, whatever module it is told to run."""
    script = folder / "python"
    worker = Path(__file__).with_name("odd_worker.py")
    script.write_text(f'#!/bin/sh\nshift 3\nexec "{sys.executable}" "{worker}" "$@"\n')
    script.chmod(0o755)
    return script
