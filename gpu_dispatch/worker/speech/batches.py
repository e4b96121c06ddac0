"""Windows decoded together at the first temperature; the doubtful ones are decoded again, alone, with all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from gpu_dispatch.transcript import Segment
from gpu_dispatch.worker.speech.chunks import Chunk
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE, Device, WindowReading
from gpu_dispatch.worker.speech.postprocess import postprocess
from manifests.errors import WorkerCrashed
from manifests.options import RecognitionOptions

SEQUENTIAL_S = 120.0
"""Seconds of speech up to which a CPU decodes one window after the other: there is little to gain."""

UNSPOKEN_S = 4.0
"""A longer stretch of a window without a new word means that words are missing: pauses of 2 s are cut out before."""

LATE_S = 0.5
"""How far a word may reach over its window's end."""

Doubt = Literal["repetition", "improbable", "silence", "empty", "loop", "times"]


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a model recognised in a recording."""

    segments: tuple[Segment, ...]
    """With times of the recording."""
    windows: int = 0
    """How many windows were decoded together with others."""
    again: int = 0
    """How many of them were doubtful and decoded again."""


def batches_pay(
    options: RecognitionOptions, device: Device, speech_s: float, sequential_s: float = SEQUENTIAL_S
) -> bool:
    """Whether to decode windows together. Conditioning on earlier text needs one after the other."""
    if options.strategy == "exact" or options.condition_on_previous_text:
        return False
    return device == "cuda" or speech_s > sequential_s


def read_in_batches(
    windows: Sequence[Chunk],
    size: int,
    options: RecognitionOptions,
    *,
    together: Callable[[Sequence[Chunk]], list[WindowReading]],
    alone: Callable[[Chunk], list[Segment]],
) -> Recognition:
    """Decodes `size` windows at a time, half as many whenever memory runs out, and at last each alone.

    With one temperature only, nothing is decoded again.
    """
    found: list[Segment] = []
    at = read = again = 0
    while at < len(windows):
        if size == 0:
            found += _placed(windows[at], alone(windows[at]), options)
            at += 1
            continue
        batch = windows[at : at + size]
        try:
            readings = together(batch)
        except WorkerCrashed:  # out of memory, see `engine_failure`
            size = len(batch) // 2
            continue
        for window, reading in zip(batch, readings, strict=True):
            doubtful = len(options.temperature) > 1 and doubt(reading, window_s(window), options) is not None
            found += _placed(window, alone(window) if doubtful else reading.segments, options)
            again += doubtful
        at += len(batch)
        read += len(batch)
    return Recognition(tuple(found), read, again)


def doubt(reading: WindowReading, seconds: float, options: RecognitionOptions) -> Doubt | None:
    """Returns why a window of `seconds` is to be decoded again; None when it is good enough.

    The first three are Whisper's own tests, with the task's thresholds; an option that is None disables its test.
    """
    repetition, improbable = options.compression_ratio_threshold, options.logprob_threshold
    if repetition is not None and reading.compression_ratio > repetition:
        return "repetition"
    if improbable is not None and reading.avg_logprob < improbable:
        return "improbable"
    if options.no_speech_threshold is not None and reading.no_speech_prob > options.no_speech_threshold:
        return "silence"
    if not reading.segments:
        return "empty"
    if repetition is not None and _loops(reading.segments, repetition):
        return "loop"
    return "times" if _misses_time(reading.segments, seconds) else None


def window_s(window: Chunk) -> float:
    """Returns the seconds of sound in `window`."""
    return sum(span.end - span.start for span in window.spans) / SAMPLE_RATE


def _loops(segments: Sequence[Segment], threshold: float) -> bool:
    return bool(postprocess(segments, math.inf, repetition=threshold).loops)


def _misses_time(segments: Sequence[Segment], seconds: float) -> bool:
    """Whether words lie outside the window, or a stretch of it is without a new word."""
    words = [word for segment in segments for word in segment.words]
    if any(word.end > seconds + LATE_S for word in words):
        return True
    moments = [0.0, *(word.start for word in words), words[-1].end if words else 0.0, seconds]
    return any(later - earlier > UNSPOKEN_S for earlier, later in pairwise(moments))


def _placed(window: Chunk, segments: Sequence[Segment], options: RecognitionOptions) -> list[Segment]:
    """Converts times to the recording's. Words serve for them even when they are not wanted."""
    placed = [window.place(segment) for segment in segments]
    return placed if options.word_timestamps else [replace(segment, words=()) for segment in placed]
