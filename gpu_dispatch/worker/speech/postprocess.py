"""Cleans a model's output: removes endless repetitions and makes times increase."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from gpu_dispatch.task import Segment, Word

MAX_UNIT = 12
"""Words of the longest phrase whose repetition is searched for."""

MIN_TIMES = 4
"""Fewer repetitions in a row are ordinary speech."""

_LOOP = re.compile(r"(.{1,80}?)\1{3,}", re.DOTALL)


def postprocess(segments: Iterable[Segment], duration: float, *, repetition: float | None) -> tuple[Segment, ...]:
    """Returns `segments` numbered from 0, in order, within [0, duration] and without loops.

    A loop is a phrase that occurs MIN_TIMES or more in a row in a text with a compression ratio above `repetition`,
    Whisper's own threshold for rejecting a window. One occurrence is kept. None: loops stay.
    """
    kept = list(segments)
    if repetition is not None:
        kept = without_repeats([without_loop(s, repetition) for s in kept], repetition)
    timed = monotonic([s for s in kept if s.text.strip()], duration)
    return tuple(replace(s, id=i) for i, s in enumerate(timed))


def compression_ratio(text: str) -> float:
    """Returns the bytes of `text` divided by its compressed bytes: about 1.5 for speech, above 2.4 for repetition."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))


def without_loop(segment: Segment, threshold: float) -> Segment:
    if compression_ratio(segment.text) <= threshold:
        return segment
    if not segment.words:
        return replace(segment, text=_LOOP.sub(r"\1", segment.text))
    words = _unlooped(segment.words)
    if len(words) == len(segment.words):
        return segment
    return replace(segment, words=words, end=words[-1].end, text="".join(w.text for w in words))


def without_repeats(segments: Sequence[Segment], threshold: float) -> list[Segment]:
    """Keeps only the first segment of a loop of segments with the same text."""
    result: list[Segment] = []
    start = 0
    while start < len(segments):
        end = start + 1
        while end < len(segments) and _plain(segments[end].text) == _plain(segments[start].text):
            end += 1
        run = segments[start:end]
        loop = len(run) >= MIN_TIMES and compression_ratio("".join(s.text for s in run)) > threshold
        result += run[:1] if loop else run
        start = end
    return result


def monotonic(segments: Iterable[Segment], duration: float) -> list[Segment]:
    """Clamps times so that no word or segment starts before the previous one ends."""
    result: list[Segment] = []
    now = 0.0
    for segment in segments:
        words: list[Word] = []
        for word in segment.words:
            start, end = _within(word.start, word.end, max(now, words[-1].end) if words else now, duration)
            words.append(replace(word, start=start, end=end, probability=min(max(word.probability, 0.0), 1.0)))
        start, end = _within(segment.start, segment.end, now, duration)
        if words:
            start, end = words[0].start, words[-1].end
        result.append(replace(segment, start=start, end=end, words=tuple(words)))
        now = end
    return result


def _unlooped(words: Sequence[Word]) -> tuple[Word, ...]:
    plain = [_plain(w.text) for w in words]
    result: list[Word] = []
    i = 0
    while i < len(words):
        unit, times = _loop_at(plain, i)
        result += words[i : i + unit]
        i += unit * times
    return tuple(result)


def _loop_at(plain: Sequence[str], i: int) -> tuple[int, int]:
    """Returns the words of the shortest phrase that repeats from word `i` on, and its count; (1, 1) when none does."""
    for unit in range(1, min(MAX_UNIT, (len(plain) - i) // MIN_TIMES) + 1):
        times = 1
        while plain[i + times * unit : i + (times + 1) * unit] == plain[i : i + unit]:
            times += 1
        if times >= MIN_TIMES:
            return unit, times
    return 1, 1


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text).strip().casefold() or text.strip()


def _within(start: float, end: float, earliest: float, latest: float) -> tuple[float, float]:
    start = round(min(max(start, earliest), latest), 3)
    return start, round(min(max(end, start), latest), 3)
