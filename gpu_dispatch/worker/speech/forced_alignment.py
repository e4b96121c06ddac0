"""What engines answer when they lay a given text on sound by the model's attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

FORCED_TOKENS = 430
"""Most tokens of a text: a decoder has 448 places, of which the beginning of a transcript takes a few."""

FORCED_AUDIO_S = 30.0
"""The longest sound, one window of the encoder."""

ALIGNABLE_FRAMES = 2
"""Frames of 10 ms. A shorter window (below 20 ms) cannot be aligned to words: before CTranslate2 4.8.1 that ends the
process, later it raises IndexError."""

FRAMES_A_SECOND = 50
"""Frames of the encoder's output."""


@dataclass(frozen=True, slots=True)
class ForcedWord:
    """A piece of the given text, as the model's tokenizer divides it."""

    text: str
    """Joined, the pieces are the text."""
    start: float
    """Seconds from the start of the sound."""
    end: float
    log_probability: float
    """Of all its tokens together: the logarithm of how likely the model holds them, after the text before them."""
    least: float
    """Of its least likely token. Words that are said have some -4 and more, words that are not -9 and less (tiny.en,
    read speech)."""


ForcedReader = Callable[[float, float, str], tuple[ForcedWord, ...]]
"""Lays a text on the sound between two seconds of the recording; its times count from the first one."""


def sayable(text: str) -> str:
    """Returns `text` without what a tokenizer would take for one of the model's own signs, such as <|endoftext|>."""
    return text.replace("<|", "< |")


def frame_times(path: Sequence[tuple[int, int]], sizes: Sequence[int]) -> list[tuple[float, float]]:
    """Returns start and end of words with `sizes` tokens; `path` leads through (token, frame), the end's token last."""
    begins: dict[int, int] = {}
    for token, frame in path:
        begins.setdefault(token, frame)
    last = max((frame for _, frame in path), default=0)
    bounds = [begins.get(at, last) / FRAMES_A_SECOND for at in (0, *accumulate(sizes))]
    return list(pairwise(bounds))


def forced_words(
    texts: Sequence[str], sizes: Sequence[int], times: Sequence[tuple[float, float]], likely: Sequence[float]
) -> tuple[ForcedWord, ...]:
    """Makes words of `texts`, whose tokens number `sizes`; `likely` has the logarithm of each token's probability."""
    words: list[ForcedWord] = []
    at = 0
    for text, size, (start, end) in zip(texts, sizes, times, strict=True):
        own = likely[at : at + size]
        words.append(ForcedWord(text, float(start), float(max(start, end)), float(sum(own)), float(min(own))))
        at += size
    return tuple(words)
