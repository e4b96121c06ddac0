"""Finds the parts of a recording with speech and groups them into chunks that fit into memory."""

from __future__ import annotations

import importlib.util
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from gpu_dispatch.transcript import Segment, Word
from gpu_dispatch.worker.speech.audio import Pcm, to_samples
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE, Samples, import_module
from gpu_dispatch.worker.speech.levels import DETECTION, RECOGNITION, levelled
from gpu_dispatch.worker.speech.mix import AUDIBLE

PIECE_S = 600
"""Seconds that Silero processes at a time: its buffers take four times the size of the sound."""

MIN_SILENCE_S = 2.0
"""A shorter pause is not removed."""

PAD_S = 0.4
"""Kept before and after each span."""

THRESHOLD = 0.35
"""Silero's probability of speech; a voice in a telephone's band reaches little more."""

FADING = 0.2
"""A sound of speech goes on down to this probability."""

CERTAIN = 0.7
"""A recording with speech reaches this somewhere: a single "no", a telephone and a voice at -55 dB reach 0.9; guitars
reach 0.55, other music, noise and applause 0.45."""

LEAST_S = 0.13
"""Less above the threshold between two long pauses is no speech."""

FRAME = SAMPLE_RATE // 10
"""Samples."""

WINDOW = 512
"""Samples for which Silero gives one probability."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of samples, from `start` up to but not including `end`."""

    start: int
    end: int


def has_detector() -> bool:
    """Whether Silero's voice detector is installed. It comes with faster-whisper; both engines use it."""
    return all(importlib.util.find_spec(name) for name in ("faster_whisper", "onnxruntime"))


@dataclass(frozen=True, slots=True)
class Detection:
    spans: tuple[Span, ...]
    """The parts with speech, padding and short pauses included."""
    voice_s: float
    """Seconds of voice in them; without a detector, all of their time."""


def detect_speech(pcm: Pcm, before_piece: Callable[[], None] = lambda: None) -> Detection:
    """Finds the spans with speech; without the detector, those with any sound.

    `before_piece` is called about once a second of work and may raise to stop it.
    """
    if not has_detector():
        return whole_of(audible_spans(pcm))
    vad = import_module("faster_whisper.vad", engine="voice detector", remedy="pip install faster-whisper")
    silero = vad.get_vad_model()
    found: list[_Voice] = []
    for start in range(0, len(pcm), PIECE_S * SAMPLE_RATE):
        before_piece()
        piece = levelled(to_samples(pcm[start : start + PIECE_S * SAMPLE_RATE]), DETECTION)
        found += _voices(silero(np.pad(piece, (0, -len(piece) % WINDOW))).ravel(), start)
    if max((voice.peak for voice in found), default=0.0) < CERTAIN:
        return Detection((), 0.0)
    pad = int(PAD_S * SAMPLE_RATE)
    padded = [Span(max(0, v.span.start - pad), min(len(pcm), v.span.end + pad)) for v in found]
    return Detection(joined_spans(padded), sum(v.windows for v in found) * WINDOW / SAMPLE_RATE)


def whole_of(spans: tuple[Span, ...]) -> Detection:
    """Takes all of `spans` for voice."""
    return Detection(spans, sum(s.end - s.start for s in spans) / SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class _Voice:
    """Speech between two long pauses."""

    span: Span
    windows: int
    """Windows of voice in it."""
    peak: float
    """The greatest probability of speech."""


def _voices(probabilities: Samples, offset: int) -> list[_Voice]:
    """Finds speech by the probability of each window; the first one begins at the sample `offset`."""
    voiced = np.flatnonzero(probabilities >= THRESHOLD)
    fading = np.append(np.flatnonzero(probabilities < FADING), len(probabilities))
    result: list[_Voice] = []
    for group in np.split(voiced, np.flatnonzero(np.diff(voiced) >= MIN_SILENCE_S * SAMPLE_RATE / WINDOW) + 1):
        if len(group) * WINDOW >= LEAST_S * SAMPLE_RATE:
            first, end = int(group[0]), int(fading[np.searchsorted(fading, group[-1])])
            here = probabilities[first:end]
            span = Span(offset + first * WINDOW, offset + end * WINDOW)
            result.append(_Voice(span, int((here >= FADING).sum()), float(here.max())))
    return result


def audible_spans(pcm: Pcm) -> tuple[Span, ...]:
    """Returns the spans outside digital silence of MIN_SILENCE_S or more."""
    whole = len(pcm) // FRAME * FRAME
    # Not abs(): -32768 has no positive counterpart, and an hour of absolute values takes 115 MB.
    frames = pcm[:whole].reshape(-1, FRAME)
    loud = (frames.max(axis=1, initial=0) >= AUDIBLE) | (frames.min(axis=1, initial=0) <= -AUDIBLE)
    rest = pcm[whole:]
    loud = np.append(loud, bool(len(rest)) and bool((rest >= AUDIBLE).any() or (rest <= -AUDIBLE).any()))
    pad = int(PAD_S * SAMPLE_RATE)
    return joined_spans(
        Span(max(0, int(i) * FRAME - pad), min(len(pcm), (int(i) + 1) * FRAME + pad)) for i in np.flatnonzero(loud)
    )


def joined_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Joins spans with less than MIN_SILENCE_S of silence between them, padding included; `spans` are in order."""
    gap = int((MIN_SILENCE_S - 2 * PAD_S) * SAMPLE_RATE)
    result: list[Span] = []
    for span in spans:
        if result and span.start - result[-1].end < gap:
            result[-1] = Span(result[-1].start, max(result[-1].end, span.end))
        else:
            result.append(span)
    return tuple(result)


CHUNK_S = 300.0
"""The longest chunk. An engine's spectrogram takes 0.12 GB for it and 14 GB for ten hours, by its arrays' sizes."""

SEARCH_S = 30.0
"""A longer span is cut at the quietest moment in this time before the chunk's limit."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Spans of the recording, concatenated."""

    spans: tuple[Span, ...]

    def samples(self, pcm: Pcm) -> Samples:
        """Returns the sound of the spans, raised where it is too quiet for a model."""
        return levelled(to_samples(np.concatenate([pcm[s.start : s.end] for s in self.spans])), RECOGNITION)

    def place(self, segment: Segment) -> Segment:
        """Converts a segment's times from the chunk's to the recording's; `seek` is in units of 10 ms."""
        ends = self._ends()
        seek = round(self.moment(segment.seek / 100) * 100)
        words = tuple(_place_word(word, self.spans, ends) for word in segment.words)
        if words:
            return replace(segment, start=words[0].start, end=words[-1].end, words=words, seek=seek)
        first = min(bisect_right(ends, segment.start), len(ends) - 1)
        last = max(first, min(bisect_left(ends, segment.end), len(ends) - 1))
        start = _moment(segment.start, self.spans, ends, first)
        return replace(segment, start=start, end=max(start, _moment(segment.end, self.spans, ends, last)), seek=seek)

    def moment(self, seconds: float) -> float:
        """Returns the recording's time at `seconds` of the chunk."""
        ends = self._ends()
        return _moment(seconds, self.spans, ends, min(bisect_left(ends, seconds), len(ends) - 1))

    def _ends(self) -> list[float]:
        """Returns where each span ends in the chunk, in seconds."""
        return [total / SAMPLE_RATE for total in accumulate(s.end - s.start for s in self.spans)]


def plan_chunks(pcm: Pcm, spans: Sequence[Span], limit_s: float = CHUNK_S) -> tuple[Chunk, ...]:
    """Groups `spans` into chunks of at most `limit_s` seconds."""
    limit = int(limit_s * SAMPLE_RATE)
    chunks: list[list[Span]] = []
    size = 0
    for span in _cut(pcm, spans, limit):
        if not chunks or size + span.end - span.start > limit:
            chunks.append([])
            size = 0
        chunks[-1].append(span)
        size += span.end - span.start
    return tuple(Chunk(tuple(block)) for block in chunks)


def _cut(pcm: Pcm, spans: Sequence[Span], limit: int) -> Iterator[Span]:
    for span in spans:
        start = span.start
        while span.end - start > limit:
            middle = _quietest(pcm, max(start + limit // 2, start + limit - int(SEARCH_S * SAMPLE_RATE)), start + limit)
            yield Span(start, middle)
            start = middle
        yield Span(start, span.end)


def _quietest(pcm: Pcm, start: int, end: int) -> int:
    frames = to_samples(pcm[start : start + (end - start) // FRAME * FRAME]).reshape(-1, FRAME)
    return start + int(np.argmin(np.square(frames).sum(axis=1))) * FRAME + FRAME // 2


def _place_word(word: Word, spans: Sequence[Span], ends: Sequence[float]) -> Word:
    """Assigns a word to the span of its middle and cuts its times to that span."""
    index = min(bisect_right(ends, (word.start + word.end) / 2), len(ends) - 1)
    return replace(word, start=_moment(word.start, spans, ends, index), end=_moment(word.end, spans, ends, index))


def _moment(seconds: float, spans: Sequence[Span], ends: Sequence[float], index: int) -> float:
    span = spans[index]
    began = ends[index] - (span.end - span.start) / SAMPLE_RATE
    return min(max(span.start / SAMPLE_RATE + seconds - began, span.start / SAMPLE_RATE), span.end / SAMPLE_RATE)
