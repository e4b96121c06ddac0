"""Cuts speech into windows that an engine decodes in one go, in pauses."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gpu_dispatch.worker.speech.audio import Pcm, to_samples
from gpu_dispatch.worker.speech.chunks import Chunk, Span
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE

WINDOW_S = 30.0
"""What Whisper's encoder takes."""

SEARCH_S = 8.0
"""A span that does not fit is cut in the quietest moment of this time before the window's end."""

PAUSE = SAMPLE_RATE * 2 // 5
"""Samples over which the sound is averaged: a pause between sentences wins over one inside a word."""

STEP = SAMPLE_RATE // 50
"""Samples."""

REST_S = 1.0
"""The least that a cut leaves over; less is no sentence."""


def plan_windows(pcm: Pcm, spans: Iterable[Span], limit_s: float = WINDOW_S) -> tuple[Chunk, ...]:
    """Fills windows of at most `limit_s` seconds with `spans`, which are in order, cutting those that do not fit."""
    limit, search = int(limit_s * SAMPLE_RATE), int(SEARCH_S * SAMPLE_RATE)
    windows: list[list[Span]] = [[]]
    size = 0
    for span in spans:
        start = span.start
        while size + span.end - start > limit:
            if (room := limit - size) > search:
                cut = _quietest(pcm, start + room - search, min(start + room, span.end - int(REST_S * SAMPLE_RATE)))
                windows[-1].append(Span(start, cut))
                start = cut
            windows.append([])
            size = 0
        windows[-1].append(Span(start, span.end))
        size += span.end - start
    return tuple(Chunk(tuple(window)) for window in windows if window)


def _quietest(pcm: Pcm, start: int, end: int) -> int:
    """Returns the middle of the quietest PAUSE between `start` and `end`."""
    steps = to_samples(pcm[start : start + (end - start) // STEP * STEP]).reshape(-1, STEP)
    sums = np.convolve(np.square(steps).sum(axis=1), np.ones(PAUSE // STEP), mode="valid")
    return start + int(np.argmin(sums)) * STEP + PAUSE // 2
