"""What is told of a transcript beside its words."""

from __future__ import annotations

from collections.abc import Sequence

from gpu_dispatch.transcript import CutLoop, Quality, Segment

DOUBTFUL = 0.3
"""A word less probable than this is listed."""

LISTED = 20
"""Entries of a list."""


def quality_of(
    segments: Sequence[Segment],
    loops: Sequence[CutLoop],
    *,
    voice_s: float,
    duration: float,
    first_temperature: float,
    again: int,
) -> Quality:
    """Sums up `segments`; what is above `first_temperature` was decoded again, as were `again` windows of batches."""
    doubtful = [word for segment in segments for word in segment.words if word.probability < DOUBTFUL]
    return Quality(
        speech_ratio=round(min(voice_s / duration, 1.0), 3) if duration else 0.0,
        silent_s=round(max(duration - voice_s, 0.0), 1),
        mean_logprob=_mean_logprob(segments),
        decoded_again=max(again, len({s.seek for s in segments if s.temperature > first_temperature})),
        doubtful_words=len(doubtful),
        doubtful=tuple(doubtful[:LISTED]),
        loops_cut=len(loops),
        loops=tuple(loops[:LISTED]),
    )


def _mean_logprob(segments: Sequence[Segment]) -> float | None:
    weights = [len(segment.tokens) or 1 for segment in segments]
    if not weights:
        return None
    return round(sum(s.avg_logprob * w for s, w in zip(segments, weights, strict=True)) / sum(weights), 3)
