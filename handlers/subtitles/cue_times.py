"""When cues appear and vanish."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from handlers.subtitles.limits import CueLimits
from handlers.subtitles.model import MAX_MS, Cue

ENDLESS_MS = 2 * MAX_MS
"""Where nothing follows."""
LEAST_MS = 100
"""Length that a cue keeps before it leaves a gap after itself."""
EARLY_MS = 500
"""How far a cue moves to begin with a picture, or to end before one: 12 frames, as for text after its last word."""
LATE_MS = 120
"""How much later than its first word a cue may begin, or earlier than its last one end: 3 frames."""


def cue_end(start_ms: int, said_ms: int, following_ms: int, limits: CueLimits) -> int:
    """Returns the end of a cue whose last word ends at `said_ms` and whose successor begins at `following_ms`.

    The text stays for `lag_ms` after its last word or longer to be seen at all, as far as the successor's gap allows.
    """
    end = max(said_ms + limits.lag_ms, start_ms + limits.shortest_ms)
    return max(start_ms + 1, min(end, start_ms + limits.longest_ms, latest_end(start_ms, following_ms, limits)))


def latest_end(start_ms: int, following_ms: int, limits: CueLimits) -> int:
    room = following_ms - start_ms
    return following_ms - limits.gap_ms if room >= LEAST_MS + limits.gap_ms else following_ms


def timed(cues: Sequence[Cue], limits: CueLimits) -> list[Cue]:
    """Gives cues, which have words and no times yet, their times: each starts with its first word."""
    starts: list[int] = []
    for cue in cues:
        starts.append(max(cue.words[0].start_ms, starts[-1] + 1 if starts else 0))
    after = [*starts[1:], ENDLESS_MS][: len(starts)]
    return [
        Cue(start, cue_end(start, cue.words[-1].end_ms, following, limits), cue.lines)
        for cue, start, following in zip(cues, starts, after, strict=True)
    ]


def snapped(cues: Sequence[Cue], cuts_ms: Sequence[int], limits: CueLimits) -> tuple[Cue, ...]:
    """Moves starts and ends of cues to the picture's cuts that are near, without breaking a limit that they kept.

    A cue begins with a picture up to EARLY_MS before its first word or LATE_MS after it; it ends before a picture that
    begins up to EARLY_MS after its last word. `cuts_ms` rise.
    """
    moved = list(cues)
    for i, cue in enumerate(cues):
        begin = _near(cuts_ms, cue.start_ms - EARLY_MS, cue.start_ms + LATE_MS, cue.start_ms)
        if begin is None:
            continue
        previous = moved[i - 1] if i else None
        free = previous is None or begin >= previous.end_ms + limits.gap_ms
        if previous is not None and not free and begin - limits.gap_ms >= previous.words[-1].end_ms:
            shortened = replace(previous, end_ms=begin - limits.gap_ms)
            free = _keeps(previous, shortened, limits)
            moved[i - 1] = shortened if free else previous
        shifted = replace(cue, start_ms=begin)
        if free and _keeps(cue, shifted, limits):
            moved[i] = shifted
    return tuple(_ended(cue, following, cuts_ms, limits) for cue, following in pairwise([*moved, None]) if cue)


def _ended(cue: Cue, following: Cue | None, cuts_ms: Sequence[int], limits: CueLimits) -> Cue:
    said = cue.words[-1].end_ms
    cut = _near(cuts_ms, max(said - LATE_MS, cue.start_ms + 1), said + EARLY_MS + limits.gap_ms, cue.end_ms)
    if cut is None or (following is not None and cut > following.start_ms):
        return cue
    shortened = replace(cue, end_ms=cut - limits.gap_ms)
    return shortened if cut - limits.gap_ms >= said - LATE_MS and _keeps(cue, shortened, limits) else cue


def _near(cuts_ms: Sequence[int], earliest: int, latest: int, wanted: int) -> int | None:
    found = cuts_ms[bisect_left(cuts_ms, earliest) : bisect_left(cuts_ms, latest + 1)]
    return min(found, key=lambda cut: abs(cut - wanted), default=None)


def _keeps(before: Cue, after: Cue, limits: CueLimits) -> bool:
    """Returns whether `after` keeps the limits of length, as far as `before` did."""
    least = max(1, min(limits.shortest_ms, before.end_ms - before.start_ms))
    return least <= after.end_ms - after.start_ms <= limits.longest_ms
