"""A worker with odd operations: the real child in everything but what it does.

`model` says what is asked of it, up to the first "--": what follows only tells jobs apart. "wait-0.5" works half a
second.
"""

import asyncio
import ctypes
import json
import logging
import os
import resource
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
    TaskParams,
    TranscribeParams,
    VideoFile,
    Videos,
)
from gpu_dispatch.transcript import Segment, Transcript, Word
from gpu_dispatch.worker.child import OwnerChannel, die_with_owner, parse_options, serve_owner
from gpu_dispatch.worker.confinement import confine
from gpu_dispatch.worker.context import JobContext
from manifests.errors import ErrorInfo, GpuDropError

HUGE_WORDS = 300_000
LIE = "\x1b[2J\u202eso it is said\x00 " + "x" * 100_000
"""What it says with the code that follows "says-"."""
_PTRACE_SEIZE = 0x4206


def transcript(text: str = "", words: tuple[Word, ...] = ()) -> Transcript:
    segment = Segment(id=0, start=0.0, end=1.0, text=text, words=words)
    return Transcript("en", 1.0, 1.0, (segment,), model="odd", engine=str(os.getpid()), device="cpu")


def words(count: int) -> tuple[Word, ...]:
    return tuple(Word(f" word{i}", i / 3, i / 3 + 0.25, 0.9) for i in range(count))


def films(params: Img2VidParams, job: JobContext) -> Videos:
    """One small file for every clip, with the clip's name in it: many outputs, without the work."""
    swollen = int(os.environ.get("ODD_SWELL", "0"))
    for clip in params.clips:
        job.path(clip.output).write_text(clip.output.ljust(swollen))
    sizes = {clip.output: job.path(clip.output).stat().st_size for clip in params.clips}
    files = [VideoFile(c.output, sizes[c.output], c.frames / 24, 320, 180, c.frames) for c in params.clips]
    return Videos(tuple(files), "libx264")


def count(params: TaskParams) -> None:
    """A line for every execution there really is, in the file that ODD_WORKS names."""
    if works := os.environ.get("ODD_WORKS"):
        with Path(works).open("a") as file:
            file.write(f"{params.operation}\n")


async def hoard_of(what: str, job: JobContext) -> None:
    """Takes more and more of the machine, in a process that this one has started, until somebody ends it."""
    more = {
        "memory": "held.append(b'x' * 2**24)",
        "disk": "open(str(len(held)), 'wb').write(b'x' * 2**24); held.append(b'')",
        "processes": "held.append(subprocess.Popen(['sleep', '1000']))",
    }[what]
    script = f"import subprocess, time\nheld = []\nfor _ in range(1000):\n    {more}\n    time.sleep(0.01)\n"
    subprocess.Popen([sys.executable, "-c", script], cwd=job.folder)
    await asyncio.sleep(1000)


def burst_of(what: str) -> None:
    """Takes much of the machine at once, "here" in this process, else in one that ends with it."""
    if what == "here":
        assert len(b"x" * 2**30)
        return
    script = {
        "memory": "b'x' * 2**30",
        "processes": "import subprocess\nfor p in [subprocess.Popen(['sleep', '1']) for _ in range(60)]: p.wait()",
    }[what]
    subprocess.run([sys.executable, "-c", script], check=True)


def spied() -> dict[str, str]:
    """What came of each thing that a worker has no business with: "done", or why not."""
    owner = Path(f"/proc/{os.getppid()}")
    libc = ctypes.CDLL(None, use_errno=True)
    tries = {
        "environ": (owner / "environ").read_bytes,
        "mem": (owner / "mem").open,
        "ptrace": lambda: called(libc.ptrace(_PTRACE_SEIZE, os.getppid(), 0, 0)),
        "setuid": lambda: os.setuid(0 if os.getuid() else 12345),
        "core": lambda: resource.setrlimit(resource.RLIMIT_CORE, (2**20, 2**20)),
        "files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4097, 4097)),
    }
    said: dict[str, str] = {}
    for name, attempt in tries.items():
        try:
            attempt()
            said[name] = "done"
        except (OSError, ValueError) as e:
            said[name] = str(e)
    status = Path("/proc/self/status").read_text()
    said["gains"] = "none" if "NoNewPrivs:\t1" in status else "some"
    return said


def called(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


async def odd(params: TaskParams, job: JobContext) -> Payload:
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
        case "spy":
            return transcript(json.dumps(spied()))
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
        case hoard if hoard.startswith("hoard-"):
            await hoard_of(hoard.removeprefix("hoard-"), job)
        case burst if burst.startswith("burst-"):
            burst_of(burst.removeprefix("burst-"))
        case "escape":
            return transcript(str(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid))
        case "break":
            raise KeyError("a defect")
        case wait if wait.startswith("wait-"):
            job.report(Progress(50, "wait"))
            await asyncio.sleep(float(wait.removeprefix("wait-")))
        case _:
            pass
    return transcript(params.model)


if __name__ == "__main__":
    confine()
    channel = OwnerChannel.over_stdio()
    die_with_owner()
    logging.basicConfig(stream=sys.stderr)
    asyncio.run(serve_owner(channel, odd, parse_options(sys.argv[1:])[0]))
