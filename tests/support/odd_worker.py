"""A worker with odd operations: the real child in everything but what it does.

`model` says what is asked of it, up to the first "--": what follows only tells jobs apart. "wait-0.5" works half a
second.
"""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from gpu_dispatch.task import (
    Img2VidParams,
    Payload,
    Progress,
    Segment,
    TaskParams,
    TranscribeParams,
    Transcript,
    VideoFile,
    Videos,
    Word,
)
from gpu_dispatch.worker.child import Channel, die_with_owner, parse, serve
from gpu_dispatch.worker.context import Job
from manifests.errors import ErrorInfo, GpuDropError

HUGE_WORDS = 300_000
LIE = "\x1b[2J\u202eso it is said\x00 " + "x" * 100_000
"""What it says with the code that follows "says-"."""


def transcript(text: str = "", words: tuple[Word, ...] = ()) -> Transcript:
    segment = Segment(id=0, start=0.0, end=1.0, text=text, words=words)
    return Transcript("en", 1.0, 1.0, (segment,), model="odd", engine=str(os.getpid()), device="cpu")


def words(count: int) -> tuple[Word, ...]:
    return tuple(Word(f" word{i}", i / 3, i / 3 + 0.25, 0.9) for i in range(count))


def films(params: Img2VidParams, job: Job) -> Videos:
    """One small file for every clip, with the clip's name in it: many outputs, without the work."""
    for clip in params.clips:
        job.path(clip.output).write_text(clip.output)
    files = [VideoFile(c.output, len(c.output), c.frames / 24, 320, 180, c.frames) for c in params.clips]
    return Videos(tuple(files), "libx264")


def count(params: TaskParams) -> None:
    """A line for every execution there really is, in the file that ODD_WORKS names."""
    if works := os.environ.get("ODD_WORKS"):
        with Path(works).open("a") as file:
            file.write(f"{params.operation}\n")


async def odd(params: TaskParams, job: Job) -> Payload:
    count(params)
    if isinstance(params, Img2VidParams):
        return films(params, job)
    assert isinstance(params, TranscribeParams)
    match params.model.partition("--")[0]:
        case "huge":
            return transcript("huge", words(HUGE_WORDS))
        case huge if huge.startswith("huge-"):
            return transcript("huge", words(int(huge.removeprefix("huge-"))))
        case "environment":
            return transcript(json.dumps(dict(os.environ)))
        case "chatter":
            print('{"kind": "done"}\n' * 1000, flush=True)
            os.write(1, b"x" * 100_000)
            subprocess.run(["cat"], check=True)
            sys.stdin.read()
        case "rush":
            for i in range(20_000):
                job.report(Progress(i / 200, "rush"))
            await asyncio.sleep(1.0)
        case "stubborn":
            subprocess.Popen(["sleep", "1000"])
            job.report(Progress(50, "stubborn"))
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.5)  # the report leaves
            time.sleep(1000)
        case "patient":
            job.report(Progress(50, "patient"))
            await asyncio.sleep(1000)
        case "die":
            print("the last words", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        case says if says.startswith("says-"):
            raise GpuDropError.from_info(
                ErrorInfo(says.removeprefix("says-"), LIE, hint=LIE, retryable=True, where=LIE)
            )
        case "break":
            raise KeyError("a defect")
        case wait if wait.startswith("wait-"):
            job.report(Progress(50, "wait"))
            await asyncio.sleep(float(wait.removeprefix("wait-")))
        case _:
            pass
    return transcript(params.model)


if __name__ == "__main__":
    channel = Channel.over_stdio()
    die_with_owner()
    logging.basicConfig(stream=sys.stderr)
    asyncio.run(serve(channel, odd, parse(sys.argv[1:])[0]))
