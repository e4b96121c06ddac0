"""Cleans a model's output: removes endless repetitions and makes times increase."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from gpu_dispatch.transcript import CutLoop, Segment, Word
from gpu_dispatch.worker.speech.repeats import Repeat, nothing_said

MAX_UNIT = 12
"""Words of the longest phrase whose repetition is searched for."""

MIN_TIMES = 4
"""Fewer repetitions in a row are ordinary speech."""

_LOOP = re.compile(r"(.{1,80}?)\1{3,}", re.DOTALL)


BearsOut = Callable[[Sequence[Repeat]], Sequence[bool]]
"""Tells for each time of a repeated phrase whether it was really said."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    segments: tuple[Segment, ...]
    loops: tuple[CutLoop, ...]
    """What was cut."""


def postprocess(
    segments: Iterable[Segment], duration: float, *, repetition: float | None, bears_out: BearsOut = nothing_said
) -> Cleaned:
    """Returns `segments` numbered from 0, in order, within [0, duration] and without loops.

    A loop is a phrase that occurs MIN_TIMES or more in a row in a text with a compression ratio above `repetition`,
    Whisper's own threshold for rejecting a window. Its first time is kept, and those that `bears_out` bears out.
    None: loops stay.
    """
    kept = list(segments)
    cut: list[CutLoop] = []
    if repetition is not None:
        cutter = _Cutter(repetition, bears_out)
        kept = cutter.without_repeats([cutter.without_loop(s) for s in kept])
        cut = cutter.cut
    timed = monotonic([s for s in kept if s.text.strip()], duration)
    return Cleaned(tuple(replace(s, id=i) for i, s in enumerate(timed)), tuple(sorted(cut, key=lambda c: c.start)))


def compression_ratio(text: str) -> float:
    """Returns the bytes of `text` divided by its compressed bytes: about 1.5 for speech, above 2.4 for repetition."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))


class _Cutter:
    """Cuts the loops of a transcript and keeps account of them."""

    def __init__(self, threshold: float, bears_out: BearsOut) -> None:
        self._threshold = threshold
        self._bears_out = bears_out
        self.cut: list[CutLoop] = []

    def without_loop(self, segment: Segment) -> Segment:
        if compression_ratio(segment.text) <= self._threshold:
            return segment
        if not segment.words:
            return replace(segment, text=_LOOP.sub(lambda found: self._kept_text(segment, found), segment.text))
        words = self._unlooped(segment.words)
        if len(words) == len(segment.words):
            return segment
        return replace(segment, words=words, end=words[-1].end, text="".join(w.text for w in words))

    def without_repeats(self, segments: Sequence[Segment]) -> list[Segment]:
        """Keeps of a loop of segments with the same text the first and what is borne out."""
        result: list[Segment] = []
        start = 0
        while start < len(segments):
            end = start + 1
            while end < len(segments) and _plain(segments[end].text) == _plain(segments[start].text):
                end += 1
            run = segments[start:end]
            loop = len(run) >= MIN_TIMES and compression_ratio("".join(s.text for s in run)) > self._threshold
            stays = self._said([Repeat(s.text, s.start, s.end) for s in run]) if loop else [True] * len(run)
            result += [s for s, stay in zip(run, stays, strict=True) if stay]
            start = end
        return result

    def _unlooped(self, words: Sequence[Word]) -> tuple[Word, ...]:
        plain = [_plain(w.text) for w in words]
        result: list[Word] = []
        i = 0
        while i < len(words):
            unit, times = _loop_at(plain, i)
            phrases = [words[i + k * unit : i + (k + 1) * unit] for k in range(times)]
            repeats = [Repeat("".join(w.text for w in p), p[0].start, p[-1].end) for p in phrases]
            stays = self._said(repeats) if times > 1 else [True]
            result += [word for phrase, stay in zip(phrases, stays, strict=True) if stay for word in phrase]
            i += unit * times
        return tuple(result)

    def _kept_text(self, segment: Segment, found: re.Match[str]) -> str:
        """Returns what stays of a loop in a text without word times, which are taken to be even."""
        unit = found[1]
        times = len(found[0]) // len(unit)
        second = (segment.end - segment.start) / len(segment.text)
        first = segment.start + found.start() * second
        length = len(unit) * second
        repeats = [Repeat(unit, first + k * length, first + (k + 1) * length) for k in range(times)]
        return unit * sum(self._said(repeats))

    def _said(self, repeats: Sequence[Repeat]) -> list[bool]:
        stays = [True, *self._bears_out(repeats)[1:]]
        if not all(stays):
            self.cut.append(CutLoop(repeats[0].text.strip(), repeats[0].start, stays.count(False)))
        return stays


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
