"""Our worker on RunPod whose outputs tell what they were made of: the real one in everything but what it does.

`model`, up to "--": "hear" says the model's name and what the audio holds, "hear-1.5" after so many seconds, "mute"
finds no sound. Every operation that has come to its end leaves a line in the file that HISTORY_LOG names.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from gpu_dispatch.task import (
    Img2VidParams,
    Payload,
    Progress,
    TaskParams,
    TranscribeParams,
    VideoFile,
    Videos,
)
from gpu_dispatch.transcript import Segment, Transcript
from gpu_dispatch.worker.__main__ import lead_group, serve
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.environment import settings_from, start_logging
from manifests.errors import NoAudio
from support.histories.drops import said, work_of


async def telling(params: TaskParams, job: JobContext) -> Payload:
    if isinstance(params, Img2VidParams):
        return _films(params, job)
    assert isinstance(params, TranscribeParams)
    word, _, wait = params.model.partition("--")[0].partition("-")
    if word == "mute":
        raise NoAudio("There is no sound.", hint="Use another file.")
    if wait:
        job.report(Progress(50, "wait"))
        await asyncio.sleep(float(wait))
    text = said(params.model, job.path(params.audio).read_bytes())
    _note(work_of({"model": params.model}))
    segment = Segment(id=0, start=0.0, end=1.0, text=text, words=())
    return Transcript("en", 1.0, 1.0, (segment,), model=params.model, engine="told", device="cpu")


def _films(params: Img2VidParams, job: JobContext) -> Videos:
    texts = {clip: f"{clip.output} {clip.frames}" for clip in params.clips}
    for clip, text in texts.items():
        job.path(clip.output).write_text(text)
    _note(work_of({"zoom_to": params.zoom_to}))
    files = [VideoFile(c.output, len(text), c.frames / 24, 320, 180, c.frames) for c, text in texts.items()]
    return Videos(tuple(files), "libx264")


def _note(work: str) -> None:
    with Path(os.environ["HISTORY_LOG"]).open("a") as log:
        log.write(f"{work}\n")


async def idle() -> None:
    """Its operations leave no threads behind."""
    await asyncio.sleep(0)


if __name__ == "__main__":
    start_logging()
    lead_group()
    serve(telling, settings_from(os.environ), idle=idle)
