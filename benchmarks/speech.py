"""Speech side by side in one run, on the same sound and weights: our worker, the `whisper` command, faster-whisper.

python benchmarks/speech.py [--minutes 5] [--model tiny.en] [--model-dir DIR] [--only NAME …]
python benchmarks/speech.py --gpu [--minutes 10] [--shape large-v3]

Times in seconds. "cold" is the first file from the start of the process, "warm" the second one in the same process,
"CPU" what the warm one takes. "differs" is the word error rate to the text of the engine without us. With --gpu a model
of random weights says nothing sensible, in the right time: one temperature, no thresholds, no time tokens, so that
both sides decode as many windows and tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from gpu_dispatch.task import TranscribeParams
from gpu_dispatch.transcript import Transcript
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.speech.models import ModelStore
from gpu_dispatch.worker.speech.transcribe import Transcriber
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, find_ffmpeg

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from models import model_dir  # noqa: E402
from speech import spoken  # noqa: E402

TEXT = " ".join((ROOT / "benchmarks" / "speech.txt").read_text().split())
PACES = (("1.0", "0.3"), ("1.25", "0.5"))
"""Of the voice, and seconds of silence after a sentence; read in turns."""

SHAPES = {
    "large-v3": (128, 1500, 1280, 20, 32, 51866, 448, 1280, 20, 32),
    "toy": (80, 1500, 64, 1, 2, 51866, 448, 64, 1, 2),
}
"""Whisper's ModelDimensions."""

PLAIN: dict[str, Any] = {"temperature": (0.0,), "compression_ratio_threshold": None, "no_speech_threshold": None}


@dataclass(frozen=True)
class Figures:
    """One contender's: seconds, MB and what it heard."""

    cold: float
    warm: float
    cpu: float
    peak: float
    text: str


@dataclass(frozen=True)
class Bench:
    audio: Path
    model: str
    models: Path


def cpu_s() -> float:
    """Returns what this process and its ended children have used."""
    return sum(os.times()[:4])


def twice(hear: Callable[[], str]) -> Figures:
    """Hears the sound twice in this process, as a worker that stays."""
    hear()
    cold = time.time() - psutil.Process().create_time()
    began, cpu = time.perf_counter(), cpu_s()
    text = hear()
    warm = time.perf_counter() - began
    return Figures(cold, warm, cpu_s() - cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, text)


def ours(bench: Bench, engine: str, strategy: str, **options: Any) -> Figures:
    transcriber = Transcriber(ModelStore(bench.models, allow_download=False), FFmpeg(find_ffmpeg(None)))
    given = {"audio": "audio", "model": bench.model, "engine": engine, "strategy": strategy, "language": "en"}

    async def both() -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(bench.audio, Path(folder) / "audio")
            job = JobContext(Path(folder), lambda _: None)
            said: list[str] = []
            marks = [(time.time() - psutil.Process().create_time(), cpu_s())]
            for _ in range(2):
                transcript = await transcriber(TranscribeParams(**{**given, **options}), job)
                assert isinstance(transcript, Transcript)
                said.append(transcript.text)
                marks.append((time.time() - psutil.Process().create_time(), cpu_s()))
            await transcriber.close()
        (_, (cold, cpu), (end, cpu_end)) = marks
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return Figures(cold, end - cold, cpu_end - cpu, peak, said[-1])

    return asyncio.run(both())


def faster(bench: Bench, batched: bool) -> Figures:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(str(bench.models / bench.model), device="cpu", compute_type="int8")
    usual: dict[str, Any] = {"language": "en", "word_timestamps": True, "vad_filter": True}
    if batched:
        hear = partial(BatchedInferencePipeline(model).transcribe, batch_size=8, **usual)
    else:
        hear = partial(model.transcribe, condition_on_previous_text=False, **usual)
    return twice(lambda: "".join(segment.text for segment in hear(str(bench.audio))[0]))


def command(bench: Bench) -> Figures:
    """The command with one file, and with two: the second of them is its warm one."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ffmpeg").symlink_to(find_ffmpeg(None))
        files = [Path(folder) / name for name in ("one.wav", "two.wav")]
        for file in files:
            shutil.copy(bench.audio, file)
        environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        whisper = [sys.executable, "-c", "from whisper.transcribe import cli; cli()"]
        said = ["--model", str(bench.models / f"{bench.model}.pt"), "--language", "en", "--word_timestamps", "True"]
        quiet = ["--condition_on_previous_text", "False", "--fp16", "False", "--verbose", "False"]
        told = ["--output_format", "txt", "--output_dir", folder]
        spent: list[tuple[float, float]] = []
        for count in (1, 2):
            began, cpu = time.perf_counter(), cpu_s()
            asked = [*whisper, *said, *quiet, *told, *map(str, files[:count])]
            subprocess.run(asked, check=True, env=environment, capture_output=True)
            spent.append((time.perf_counter() - began, cpu_s() - cpu))
        (cold, cpu_one), (both, cpu_both) = spent
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        return Figures(cold, both - cold, cpu_both - cpu_one, peak, (Path(folder) / "one.txt").read_text())


def reference_on_gpu(bench: Bench) -> Figures:
    import torch
    import whisper

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = whisper.load_model(str(bench.models / f"{bench.model}.pt"), device=device)
    options = {**PLAIN, "logprob_threshold": None, "beam_size": 5, "without_timestamps": True, "language": "en"}
    sound = sound_of(bench.audio)
    return twice(lambda: model.transcribe(sound, fp16=device == "cuda", verbose=None, **options)["text"])


CONTENDERS: dict[str, Callable[[Bench], Figures]] = {
    "whisper command": command,
    "openai-whisper exact": partial(ours, engine="openai-whisper", strategy="exact"),
    "openai-whisper auto": partial(ours, engine="openai-whisper", strategy="auto"),
    "plain faster-whisper": partial(faster, batched=False),
    "faster-whisper exact": partial(ours, engine="faster-whisper", strategy="exact"),
    "plain faster-whisper, batched": partial(faster, batched=True),
    "faster-whisper auto": partial(ours, engine="faster-whisper", strategy="auto"),
}
ON_GPU: dict[str, Callable[[Bench], Figures]] = {
    "plain openai-whisper": reference_on_gpu,
    "openai-whisper auto": partial(
        ours, engine="openai-whisper", strategy="auto", word_timestamps=False, logprob_threshold=None, **PLAIN
    ),
}
REFERENCE = {"openai": "whisper command", "faster": "plain faster-whisper"}


def sound_of(audio: Path) -> Any:
    import numpy as np

    command = [find_ffmpeg(None), "-v", "error", "-i", str(audio), "-ac", "1", "-ar", "16000", "-f", "f32le", "-"]
    return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.float32)


def recording(target: Path, minutes: float) -> tuple[float, str]:
    """Speaks TEXT at each pace in turns until `minutes` are full; returns the seconds and what is said."""
    said: list[str] = []
    seconds = 0.0
    paces = cycle(PACES)
    with wave.open(str(target), "wb") as out:
        while seconds < minutes * 60:
            pace, silence = next(paces)
            options = ("--length-scale", pace, "--sentence-silence", silence)
            with wave.open(str(spoken(TEXT, (*options, "--noise-scale", "0", "--noise-w-scale", "0")))) as part:
                if not said:
                    out.setparams(part.getparams())
                out.writeframes(part.readframes(part.getnframes()))
                seconds += part.getnframes() / part.getframerate()
            said.append(TEXT)
    return seconds, " ".join(said)


def random_model(target: Path, shape: str) -> None:
    """Writes a checkpoint of random weights in Whisper's `shape`, in half precision, as the published ones."""
    import torch
    from whisper.model import ModelDimensions, Whisper

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Whisper(ModelDimensions(*SHAPES[shape])).to(device)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    state = {name: value.half().cpu() for name, value in model.state_dict().items()}
    torch.save({"dims": vars(model.dims), "model_state_dict": state}, target)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def error_rate(said: str, heard: str) -> float:
    """Returns the word error rate in per cent."""
    expected, got = words(said), words(heard)
    row = list(range(len(got) + 1))
    for i, word in enumerate(expected, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(got, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return 100 * row[-1] / max(1, len(expected))


def measured(name: str, bench: Bench) -> Figures:
    """Measures a contender in a process of its own."""
    folder = ["--in", str(bench.audio), str(bench.models), bench.model]
    done = subprocess.run([*sys.orig_argv, "--measure", name, *folder], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr}")
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


def table_of(found: dict[str, Figures], seconds: float, said: str, *, gpu: bool) -> Table:
    table = Table("", "cold", "warm", "x real time", "CPU", "peak MB", *([] if gpu else ["word errors", "differs"]))
    for name, figures in found.items():
        row = [f"{figures.cold:.1f}", f"{figures.warm:.1f}", f"{figures.warm / seconds:.3f}"]
        row += [f"{figures.cpu:.1f}", f"{figures.peak:.0f}"]
        if not gpu:
            reference = found.get(REFERENCE["faster" if "faster" in name else "openai"])
            row.append(f"{error_rate(said, figures.text):.2f}%")
            row.append(f"{error_rate(reference.text, figures.text):.2f}%" if reference else "")
        table.add_row(name, *row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--model-dir", type=Path, default=None)
    parser.add_argument("--only", nargs="+", default=None, metavar="NAME")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--shape", choices=SHAPES, default="large-v3")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--in", dest="place", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    contenders = ON_GPU if given.gpu else CONTENDERS
    if given.measure:
        bench = Bench(Path(given.place[0]), given.place[2], Path(given.place[1]))
        print(json.dumps(asdict(contenders[given.measure](bench))))
        return
    with tempfile.TemporaryDirectory() as folder:
        audio = Path(folder) / "audio.wav"
        seconds, said = recording(audio, given.minutes or (10.0 if given.gpu else 5.0))
        bench = Bench(audio, given.model, given.model_dir or (Path(folder) if given.gpu else model_dir()))
        if given.gpu:
            bench = Bench(audio, given.shape, Path(folder))  # the name gives the heads that tell the times
            random_model(Path(folder) / f"{given.shape}.pt", given.shape)
        here = [name for name in contenders if "faster" in name or importlib.util.find_spec("whisper")]
        found = {name: measured(name, bench) for name in here if name in (given.only or here)}
    place = f"random weights of {given.shape}" if given.gpu else given.model
    Console().print(f"{seconds:.0f} s of speech, {place}, {machine()}")
    Console().print(table_of(found, seconds, said, gpu=given.gpu))


def machine() -> str:
    """Names the GPU, or counts the cores."""
    if importlib.util.find_spec("torch"):
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(0)
    return f"{len(os.sched_getaffinity(0))} cores"


if __name__ == "__main__":
    main()
