"""Speech engines side by side in one run: time beside the recording's, memory, and the words.

python benchmarks/engines.py [AUDIO] [--model tiny.en] [--model-dir DIR]

Without AUDIO it is what scripts/speech.py speaks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from gpu_dispatch.task import TranscribeParams, Transcript
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.speech.models import ModelStore
from gpu_dispatch.worker.speech.registry import ENGINES, is_installed
from gpu_dispatch.worker.speech.transcribe import Transcriber
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, find_ffmpeg

ROOT = Path(__file__).parents[1]
PASSES = 3


async def measure(engine: str, audio: Path, model: str, model_dir: Path | None) -> dict[str, object]:
    transcriber = Transcriber(ModelStore(model_dir=model_dir), FFmpeg(find_ffmpeg(None)))
    factors: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "audio").write_bytes(audio.read_bytes())
        for _ in range(PASSES):
            began = time.perf_counter()
            said = await transcriber(
                TranscribeParams(audio="audio", model=model, engine=engine), JobContext(Path(folder), lambda _: None)
            )
            assert isinstance(said, Transcript)
            factors.append((time.perf_counter() - began) / said.duration)
    await transcriber.close()
    peak = psutil.Process().memory_info().rss / 2**20
    return {"engine": engine, "factors": factors, "mb": peak, "text": said.text}


def speech() -> Path:
    command = [sys.executable, str(ROOT / "scripts" / "speech.py")]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path, nargs="?")
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--model-dir", type=Path, default=None)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    given = parser.parse_args()
    audio = given.audio or speech()
    if given.engine:
        found = asyncio.run(measure(given.engine, audio, given.model, given.model_dir))
        sys.stdout.write(json.dumps(found))
        return
    table = Table("engine", "first pass, x real time", "later passes", "RSS MB", "text")
    for engine in filter(is_installed, ENGINES):
        # A process of its own for each, so that memory is its own.
        done = subprocess.run([*sys.orig_argv, "--engine", engine.name], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        first, *later = found["factors"]
        table.add_row(engine.name, f"{first:.2f}", f"{min(later):.2f}", f"{found['mb']:.0f}", found["text"][:60])
    Console().print(table)


if __name__ == "__main__":
    main()
