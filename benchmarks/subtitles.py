"""Subtitles by several writers side by side, measured by what broadcasters publish and by a reference cut by hand.

python benchmarks/subtitles.py [--rates 130,160,177,200] [--languages en,pt,es,ja] [--seeds 3]
python benchmarks/subtitles.py --audio FILE … [--model-dir DIR]

The words' times come from a model with a seed: their length by their letters, pauses after punctuation, here and there
a hesitation. A rate is words a minute (Japanese: two and a half times as many signs). Segments are a recogniser's: they
end after a sentence, on the first word of the next one, or in the midst of one. Whisper's own writer is measured if
openai-whisper is installed, SubER if `pip install subtitle-edit-rate` was; break precision and recall are those of
EvalSubtitle. With --audio, recordings of English are recognised (tiny.en) instead, and have no reference.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import importlib.util
import io
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import srt
from former_cues import former_cues
from rich.console import Console
from rich.table import Table
from spoken_texts import Reference, ends_of, read_reference, spoken, squeezed

from gpu_dispatch.task import TranscribeParams
from gpu_dispatch.transcript import Transcript
from handlers.subtitles.ass import centiseconds
from handlers.subtitles.burn_in import write_ass
from handlers.subtitles.cue_times import timed
from handlers.subtitles.cues import line_of, make_cues
from handlers.subtitles.limits import BROADCAST
from handlers.subtitles.model import Cue, Speech
from handlers.subtitles.text import cells
from handlers.subtitles.words import speech_of
from manifests.options import CaptionStyle

WEAK = {
    "en": "a an the of to in on at for with from by and or but that this my your our their its is are was were be not"
    " i you he she we they",
    "pt": "o a os as um uma de do da dos das em no na nos nas por para com e ou mas que se meu minha seu sua este esta"
    " esse essa é são era foi eu ele ela eles elas não ao à",
    "es": "el la los las un una de del a al en con por para y o pero que si mi tu su este esta ese esa es son era fue"
    " yo él ella ellos no se lo",
}
"""Words that should not end a line, as any style guide lists them; not the segmenter's own lists."""


@dataclass(frozen=True)
class Shown:
    """A cue as a viewer sees it, in seconds."""

    start: float
    end: float
    lines: tuple[str, ...]


def shown(cues: Sequence[Cue]) -> list[Shown]:
    return [Shown(c.start_ms / 1000, c.end_ms / 1000, tuple(line.text for line in c.lines)) for c in cues]


def by_whisper(transcript: Transcript, **options: Any) -> list[Shown]:
    from whisper.utils import WriteSRT

    segments = [
        {
            "start": s.start,
            "end": s.end,
            "text": s.text,
            "words": [{"word": w.text, "start": w.start, "end": w.end} for w in s.words],
        }
        for s in transcript.segments
    ]
    out = io.StringIO()
    result = {"language": transcript.language, "segments": copy.deepcopy(segments)}
    WriteSRT(".").write_result(result, file=out, options={}, **options)
    return [
        Shown(c.start.total_seconds(), c.end.total_seconds(), tuple(c.content.split("\n")))
        for c in srt.parse(out.getvalue())
    ]


Writer = Callable[[Transcript, Speech], tuple[list[Shown], tuple[Cue, ...]]]


def writers() -> dict[str, Writer]:
    """By name; the cues are () for those of others."""
    found: dict[str, Writer] = {}
    if importlib.util.find_spec("whisper"):
        found["whisper"] = lambda transcript, _: (by_whisper(transcript), ())
        found["whisper 42x2"] = lambda transcript, _: (by_whisper(transcript, max_line_width=42, max_line_count=2), ())

    def own(make: Callable[[Speech], tuple[Cue, ...]]) -> Writer:
        return lambda _, speech: (shown(cues := make(speech)), cues)

    found["gpudrop before"] = own(former_cues)
    found["gpudrop"] = own(make_cues)
    return found


def measures(cues: list[Shown], ours: tuple[Cue, ...], said: str, language: str, phrases: set[int]) -> dict[str, float]:
    """Shares in per cent, of cues or of line ends."""
    lines = [line for cue in cues for line in cue.lines]
    ends = ends_of([len(squeezed(line)) for line in lines])
    weak = set(WEAK.get(language, "").split())
    if language in WEAK:
        bad = [line.split()[-1].lower() in weak for line in lines]
    else:
        bad = [end not in phrases for end in ends]
    lengths = [cue.end - cue.start for cue in cues]
    texts = [" ".join(cue.lines) if language != "ja" else "".join(cue.lines) for cue in cues]
    pairs = list(pairwise(cues))
    return {
        "≤2 lines": share([len(cue.lines) <= 2 for cue in cues]),
        "≤42 cells": share([all(cells(line) <= 42 for line in cue.lines) for cue in cues]),
        "≤7 s": share([length <= 7.0005 for length in lengths]),
        "apart": share([a.end <= b.start and a.end > a.start for a, b in pairs]),
        "gap ≥80 ms": share([b.start - a.end >= 0.0795 for a, b in pairs]),
        "words kept": 100.0 * (squeezed("".join(lines)) == squeezed(said)),
        "\\k sums": share(karaoke_sums(ours)) if ours else float("nan"),
        "≥0.833 s": share([length >= 0.8325 for length in lengths]),
        "≤20 c/s": share([cells(t) / max(length, 1e-6) <= 20.0001 for t, length in zip(texts, lengths, strict=True)]),
        "bad breaks": share(bad),
        "one word": share([lone(cue, language) for cue in cues]),
    }


def lone(cue: Shown, language: str) -> bool:
    """Whether the cue or its second line is a single word; in Japanese, of three signs at most."""
    parts = ([cue.lines[0]] if len(cue.lines) == 1 else []) + list(cue.lines[1:])
    return any(len(part) <= 3 if language == "ja" else len(part.split()) == 1 for part in parts)


def karaoke_sums(cues: tuple[Cue, ...]) -> list[bool]:
    lines = [
        line for line in write_ass(cues, CaptionStyle(style="fill"), 1920, 1080).splitlines() if "Dialogue" in line
    ]
    sums = [sum(map(int, re.findall(r"\{\\kf?(\d+)\}", line))) for line in lines]
    return [total == centiseconds(c.end_ms) - centiseconds(c.start_ms) for total, c in zip(sums, cues, strict=True)]


def share(facts: Sequence[bool]) -> float:
    return 100 * sum(facts) / len(facts) if facts else 100.0


def agreement(cues: list[Shown], reference: Reference) -> tuple[float, float]:
    """Precision and recall of the line ends against those of the reference."""
    found = set(ends_of([len(squeezed(line)) for cue in cues for line in cue.lines]))
    common = len(found & reference.breaks)
    return 100 * common / len(found), 100 * common / len(reference.breaks)


def suber(cues: list[Shown], speech: Speech, reference: Reference) -> float:
    words = iter(speech.words)
    cut: list[Cue] = []
    for block in reference.cues:
        lines = []
        for line in block:
            part, length = [], 0
            while length < len(squeezed(line)):
                part.append(next(words))
                length += len(squeezed(part[-1].text))
            lines.append(line_of(part))
        cut.append(Cue(0, 0, tuple(lines)))
    spaced: Callable[[str], str] = " ".join if reference.language == "ja" else str
    with tempfile.TemporaryDirectory() as folder:
        for name, wanted in (("hypothesis", cues), ("reference", shown(timed(cut, BROADCAST)))):
            made = [
                srt.Subtitle(i, timedelta(seconds=c.start), timedelta(seconds=c.end), spaced_lines(c, spaced))
                for i, c in enumerate(wanted, 1)
            ]
            (Path(folder) / f"{name}.srt").write_text(srt.compose(made, reindex=False), "utf-8")
        command = [sys.executable, "-m", "suber", "-H", "hypothesis.srt", "-R", "reference.srt"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["SubER"])


def spaced_lines(cue: Shown, spaced: Callable[[str], str]) -> str:
    return "\n".join(spaced(line) for line in cue.lines)


async def recognised(audio: Path, model_dir: Path | None) -> Transcript:
    from gpu_dispatch.worker.context import JobContext
    from gpu_dispatch.worker.speech.models import ModelStore
    from gpu_dispatch.worker.speech.transcribe import Transcriber
    from gpu_dispatch.worker.video.ffmpeg import FFmpeg, find_ffmpeg

    transcriber = Transcriber(ModelStore(model_dir=model_dir), FFmpeg(find_ffmpeg(None)))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "audio").write_bytes(audio.read_bytes())
        params = TranscribeParams(audio="audio", model="tiny.en", language="en")
        try:
            return await transcriber(params, JobContext(Path(folder), lambda _: None))
        finally:
            await transcriber.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="130,160,177,200")
    parser.add_argument("--languages", default="en,pt,es,ja")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--audio", type=Path, nargs="+", default=())
    parser.add_argument("--model-dir", type=Path)
    given = parser.parse_args()
    cases: list[tuple[str, Transcript, Reference | None]] = [
        (audio.name, asyncio.run(recognised(audio, given.model_dir)), None) for audio in given.audio
    ]
    if not cases:
        for language in given.languages.split(","):
            reference = read_reference(language)
            cases += [
                (f"{language} {rate}", spoken(reference, float(rate), seed), reference)
                for rate in given.rates.split(",")
                for seed in range(given.seeds)
            ]
    judged = importlib.util.find_spec("suber") is not None
    table: Table | None = None
    names = list(dict.fromkeys(name for name, _, _ in cases))
    for case in names:
        for writer, write in writers().items():
            rows = [one(write, transcript, ref, judged) for name, transcript, ref in cases if name == case]
            mean = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
            if table is None:
                table = Table("speech", "writer", "cues", *(k for k in mean if k != "cues"))
            table.add_row(
                case, writer, f"{mean.pop('cues'):.0f}", *(f"{v:.1f}".removesuffix(".0") for v in mean.values())
            )
        if table is not None:
            table.add_section()
    Console(width=210).print(table)


def one(write: Writer, transcript: Transcript, reference: Reference | None, judged: bool) -> dict[str, float]:
    speech = speech_of(transcript)
    cues, ours = write(transcript, speech)
    row: dict[str, float] = {"cues": len(cues)}
    row |= measures(cues, ours, transcript.text, transcript.language, reference.phrases if reference else set())
    if reference is not None:
        row["precision"], row["recall"] = agreement(cues, reference)
        if judged:
            row["SubER"] = suber(cues, speech, reference)
    return row


if __name__ == "__main__":
    main()
