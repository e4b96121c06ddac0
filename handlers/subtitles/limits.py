"""What one cue may hold and how long it may stay."""

from __future__ import annotations

from dataclasses import dataclass

from manifests.options import SubtitleLimits


@dataclass(frozen=True, slots=True)
class CueLimits:
    """The limits of one cue; the defaults are those that broadcasters and streaming services publish."""

    cells: int = 42
    """For one line; a wide East Asian character takes two."""
    lines: int = 2
    words: int | None = None
    cells_per_s: float = 20.0
    """Reading speed, from 20 characters a second for adults; wide characters are read half as fast."""
    shortest_ms: int = 833
    """Five sixths of a second."""
    longest_ms: int = 7000
    gap_ms: int = 80
    """Two frames at 25 a second: without a gap one cue seems to change into the next."""
    lag_ms: int = 500
    """Longest time that text stays after its last word, unless it would be shorter than `shortest_ms`: 12 frames."""

    @classmethod
    def of(cls, asked: SubtitleLimits) -> CueLimits:
        return cls(
            cells=asked.max_chars,
            lines=asked.max_lines,
            words=asked.words,
            cells_per_s=asked.max_cps,
            shortest_ms=round(asked.min_s * 1000),
            longest_ms=round(asked.max_s * 1000),
            gap_ms=asked.gap_ms,
            lag_ms=round(asked.lag_s * 1000),
        )


BROADCAST = CueLimits()
