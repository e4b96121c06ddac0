"""Texts whose cues a human cut, and the times at which a recogniser would hear their words.

The texts lie in benchmarks/texts: a line is a line, a blank line ends a cue, and Japanese has spaces between phrases.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from gpu_dispatch.transcript import Segment, Transcript, Word

TEXTS = Path(__file__).with_name("texts")


@dataclass(frozen=True)
class Reference:
    """A text, and the places where a human cut it: offsets in its letters without blanks."""

    language: str
    cues: tuple[tuple[str, ...], ...]

    @property
    def words(self) -> list[str]:
        spaced = " ".join(line for cue in self.cues for line in cue).split()
        return [f" {word}" for word in spaced] if self.language != "ja" else spaced

    @property
    def breaks(self) -> set[int]:
        return set(ends_of([len(squeezed(line)) for cue in self.cues for line in cue]))

    @property
    def phrases(self) -> set[int]:
        """Where a word or, in Japanese, a phrase ends."""
        return set(ends_of([len(word.strip()) for word in self.words]))


def squeezed(text: str) -> str:
    return "".join(text.split())


def ends_of(lengths: Sequence[int]) -> list[int]:
    return list(accumulate(lengths))


def read_reference(language: str) -> Reference:
    blocks = (TEXTS / f"{language}.txt").read_text("utf-8").strip().split("\n\n")
    return Reference(language, tuple(tuple(block.splitlines()) for block in blocks))


def spoken(reference: Reference, rate: float, seed: int) -> Transcript:
    """The text as a recogniser hears it at `rate` words a minute."""
    chance = random.Random(seed)
    pieces = reference.words
    if reference.language == "ja":
        pieces = [word[i : i + 2] for word in pieces for i in range(0, len(word), 2)]
        rate = rate * 2.5 / 2
    drawn: list[tuple[float, float]] = []
    for piece in pieces:
        sign = piece.strip()[-1]
        pause = (0.25, 0.9) if sign in ".?!。" else (0.05, 0.3) if sign in ",;:、" else (0.0, 0.0)
        if pause == (0.0, 0.0) and chance.random() < 0.03:
            pause = (0.1, 0.5)
        letters = len(piece.strip()) * (2 if reference.language == "ja" else 1)
        drawn.append(((0.08 + 0.052 * letters) * chance.uniform(0.75, 1.25), chance.uniform(*pause)))
    scale = len(pieces) * 60 / rate / sum(length + pause for length, pause in drawn)
    words: list[Word] = []
    clock = 0.3
    for piece, (length, pause) in zip(pieces, drawn, strict=True):
        words.append(Word(piece, round(clock, 3), round(clock + length * scale, 3), 0.9))
        clock += (length + pause) * scale
    return transcript_of(words, reference.language, chance)


def transcript_of(words: Sequence[Word], language: str, chance: random.Random) -> Transcript:
    segments: list[Segment] = []
    begin, limit, late = 0, chance.uniform(5, 14), False
    for i, word in enumerate(words, start=1):
        length = word.end - words[begin].start
        sentence = word.text[-1] in ".?!。" and length > 2
        if i == len(words) or late or length > limit or (sentence and chance.random() > 0.3):
            part = tuple(words[begin:i])
            text = "".join(each.text for each in part)
            segments.append(Segment(len(segments), part[0].start, part[-1].end, text, part))
            begin, limit, late = i, chance.uniform(5, 14), False
        else:
            late = sentence
    return Transcript(language, 1.0, words[-1].end + 1, tuple(segments), "", "", "")
