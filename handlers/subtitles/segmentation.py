"""The cheapest division of words into cues and lines, found by dynamic programming over all that fit."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from handlers.subtitles.breaks import Break
from handlers.subtitles.cue_times import ENDLESS_MS, cue_end
from handlers.subtitles.limits import CueLimits
from handlers.subtitles.model import TimedWord
from handlers.subtitles.text import cells

PAUSE_MS = 1500
"""A silence that ends a cue."""

_CUE = 10.0
"""Of every cue: fewer are better."""
_INNER_SENTENCE = 12.0
_INNER_PAUSE = 0.03
"""Of a millisecond of a pause of more than _HEARD_MS within a cue."""
_HEARD_MS = 500
_CROSSED_CUT = 60.0
_TOO_SHORT = 200.0
_TOO_FAST = 40.0
"""Of a cue that is read too fast, and again of each cell a second above the limit."""
_LONE_WORD = 90.0
"""Of a cue of a single word; half of it for a line."""
_LINE = 0.6
"""A line's end weighs less than a cue's."""
_UNEVEN = 0.12
"""Of a cell by which two lines differ."""


@dataclass(frozen=True, slots=True)
class CueCut:
    """Words `begin` to before `ends[-1]` make a cue; each of `ends` ends a line."""

    begin: int
    ends: tuple[int, ...]


def divide_words(
    words: Sequence[TimedWord],
    breaks: Sequence[Break],
    limits: CueLimits,
    cuts_ms: Sequence[int] = (),
    following_ms: int = ENDLESS_MS,
) -> list[CueCut]:
    """Divides `words`, each at most a line wide, into cues; what follows them begins at `following_ms`.

    Near `cuts_ms`, which rise, a cue had better end.
    """
    division = _Division(words, breaks, limits, cuts_ms, following_ms)
    cues: list[CueCut] = []
    begin = 0
    for i in range(1, len(words) + 1):
        if i == len(words) or words[i].start_ms - words[i - 1].end_ms >= PAUSE_MS:
            cues += division.between(begin, i)
            begin = i
    return cues


class _Division:
    def __init__(
        self,
        words: Sequence[TimedWord],
        breaks: Sequence[Break],
        limits: CueLimits,
        cuts_ms: Sequence[int],
        following_ms: int,
    ) -> None:
        self._words = words
        self._limits = limits
        self._breaks = breaks
        self._starts = [*(word.start_ms for word in words), following_ms]
        self._ends = [word.end_ms for word in words]
        self._spaces = [word.text.startswith(" ") for word in words]
        self._before = [0, *accumulate(cells(word.text) for word in words)]
        self._cost = [each.cost for each in breaks]
        self._inner = list(accumulate(self._inner_costs(cuts_ms)))

    def _inner_costs(self, cuts_ms: Sequence[int]) -> list[float]:
        """Returns what it costs to keep both words around each place in one cue."""
        costs = [_INNER_SENTENCE if each.sentence else 0.0 for each in self._breaks]
        for i in range(1, len(costs)):
            pause = self._starts[i] - self._ends[i - 1]
            costs[i] += _INNER_PAUSE * pause if pause > _HEARD_MS else 0.0
        near = slice(bisect_left(cuts_ms, self._starts[0]), bisect_left(cuts_ms, self._starts[-1]))
        for cut in cuts_ms[near]:
            middle = bisect_left(self._starts, cut, 0, len(costs))
            if 0 < middle < len(costs) and not self._breaks[middle].bound:
                costs[middle] += _CROSSED_CUT
        return costs

    def _width(self, begin: int, end: int) -> int:
        return self._before[end] - self._before[begin] - self._spaces[begin]

    def _atoms(self, begin: int, end: int) -> list[int]:
        """Returns the places where a cue or line may end: what is bound stays together if a line has room for it."""
        limits = self._limits
        places = [begin]
        for i in range(begin + 1, end):
            first = places[-1]
            fits = (
                self._width(first, i + 1) <= limits.cells
                and self._ends[i] - self._starts[first] <= limits.longest_ms
                and (limits.words is None or i + 1 - first <= limits.words)
            )
            if not (self._breaks[i].bound and fits):
                places.append(i)
        return [*places, end]

    def between(self, begin: int, end: int) -> list[CueCut]:
        places = self._atoms(begin, end)
        last = len(places) - 1
        best = [0.0, *[math.inf] * last]
        chosen: list[tuple[int, tuple[int, ...]]] = [(0, ())] * (last + 1)
        for a in range(last):
            for b in range(a + 1, last + 1):
                if b > a + 1 and not self._fits(places[a], places[b]):
                    break
                cost = best[a] + self._cue_cost(places[a], places[b])
                if cost >= best[b]:
                    continue
                found = self._lines(places, a, b, self._limits.lines)
                if found is not None and cost + found[0] < best[b]:
                    best[b] = cost + found[0]
                    chosen[b] = (a, found[1])
        cues: list[CueCut] = []
        while last:
            first, ends = chosen[last]
            cues.append(CueCut(places[first], ends))
            last = first
        return cues[::-1]

    def _fits(self, begin: int, end: int) -> bool:
        limits = self._limits
        return (
            self._width(begin, end) <= limits.cells * limits.lines
            and self._ends[end - 1] - self._starts[begin] <= limits.longest_ms
            and (limits.words is None or end - begin <= limits.words)
        )

    def _cue_cost(self, begin: int, end: int) -> float:
        limits = self._limits
        length = cue_end(self._starts[begin], self._ends[end - 1], self._starts[end], limits) - self._starts[begin]
        cost = _CUE + self._inner[end - 1] - self._inner[begin]
        if end < len(self._cost):
            cost += self._cost[end]
        if length < limits.shortest_ms:
            cost += _TOO_SHORT * (2 - length / limits.shortest_ms)
        speed = self._width(begin, end) * 1000 / length
        if speed > limits.cells_per_s:
            cost += _TOO_FAST * (1 + min(speed - limits.cells_per_s, 100.0))
        if end - begin == 1 and limits.words != 1:
            cost += _LONE_WORD
        return cost

    def _lines(self, places: list[int], a: int, b: int, lines: int) -> tuple[float, tuple[int, ...]] | None:
        """Returns the cheapest lines of the words between two places, and their cost; None where they do not fit."""
        begin, end = places[a], places[b]
        whole = self._width(begin, end)
        if whole <= self._limits.cells or b == a + 1:
            return 0.0, (end,)
        if lines < 2 or whole > self._limits.cells * lines:
            return None
        best: tuple[float, tuple[int, ...]] | None = None
        for k in range(b - 1, a, -1):
            middle = places[k]
            first, rest = self._width(begin, middle), self._width(middle, end)
            if rest > self._limits.cells * (lines - 1):
                break
            if first > self._limits.cells:
                continue
            found = self._lines(places, k, b, lines - 1)
            if found is None:
                continue
            lone = (_LONE_WORD / 2) * ((middle - begin == 1) + (end - middle == 1))
            cost = found[0] + _LINE * self._cost[middle] + lone + _UNEVEN * abs(first - rest / (lines - 1))
            if best is None or cost < best[0]:
                best = (cost, (middle, *found[1]))
        return best
