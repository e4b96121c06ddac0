"""Which tokens of one long text are those of another: a global alignment in memory that grows with their length.

Rare sequences that both texts have once anchor it; what lies between two anchors is compared token by token, for the
longest common subsequence.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TABLE_CELLS = 1_000_000
"""A rectangle of at most so many comparisons is solved at once; its tables take eight bytes a cell."""

SPLIT_CELLS = 100_000_000
"""A larger rectangle without any anchor (a refrain, sung for hours) is cut in half without looking: some seconds."""

ANCHOR_TOKENS = (5, 4, 3, 2)
"""Lengths of the sequences that may anchor, in the order in which they are tried."""

STRAY = 2
"""A run of at most so many common tokens, far from others, is a coincidence: "of the" occurs in every text."""

MATCH, RUN = 2, 1
"""Scores of a common token, and of one that continues a run: three scattered ones outdo two in a row, two do not."""

_NO_MATCH = -(2**30)

LEAST_TRIM = 4
"""Tokens that are equal at both ends of a large rectangle are partners if there are so many in a row."""

Ids = NDArray[np.int32]
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Rectangle:
    """A part of the first text, and the part of the second one in which it is searched."""

    a0: int
    a1: int
    b0: int
    b1: int

    @property
    def cells(self) -> int:
        return (self.a1 - self.a0) * (self.b1 - self.b0)


def match_tokens(first: Sequence[str], second: Sequence[str]) -> list[Pair]:
    """Returns the pairs of indices of equal tokens that correspond, both rising."""
    numbers: dict[str, int] = {}
    a = np.array([numbers.setdefault(token, len(numbers)) for token in first], np.int32)
    b = np.array([numbers.setdefault(token, len(numbers)) for token in second], np.int32)
    found: list[Pair] = []
    waiting = [_Rectangle(0, len(a), 0, len(b))]
    while waiting:
        part = waiting.pop()
        if part.cells <= TABLE_CELLS:
            found += _common(a, b, part)
            continue
        ends, part = _trimmed(a, b, part)
        found += ends
        waiting += [part] if part.cells <= TABLE_CELLS else _divided(a, b, part)
    return without_strays(sorted(found), len(a), len(b))


def without_strays(pairs: Sequence[Pair], first: int, second: int) -> list[Pair]:
    """Returns `pairs` without short runs that stand alone among far more tokens of both texts without a partner."""
    runs: list[list[Pair]] = []
    for pair in pairs:
        if runs and pair[0] - runs[-1][-1][0] == pair[1] - runs[-1][-1][1] == 1:
            runs[-1].append(pair)
        else:
            runs.append([pair])
    kept: list[list[Pair]] = []
    for n, run in enumerate(runs):
        before = kept[-1][-1] if kept else (-1, -1)
        after = runs[n + 1][0] if n + 1 < len(runs) else (first, second)
        lost = min(_room(before, run[0]), _room(run[-1], after))
        if len(run) > STRAY or lost <= 3 * len(run):
            kept.append(run)
    return [pair for run in kept for pair in run]


def _room(left: Pair, right: Pair) -> int:
    return (right[0] - left[0] - 1) + (right[1] - left[1] - 1)


def _trimmed(a: Ids, b: Ids, part: _Rectangle) -> tuple[list[Pair], _Rectangle]:
    """Returns what is equal at both ends of `part`, and the rest between them."""
    most = min(part.a1 - part.a0, part.b1 - part.b0)
    head = _equal_run(a[part.a0 : part.a0 + most], b[part.b0 : part.b0 + most])
    most -= head
    tail = _equal_run(a[part.a1 - most : part.a1][::-1], b[part.b1 - most : part.b1][::-1])
    rest = _Rectangle(part.a0 + head, part.a1 - tail, part.b0 + head, part.b1 - tail)
    ends = [(part.a0 + k, part.b0 + k) for k in range(head)]
    return ends + [(rest.a1 + k, rest.b1 + k) for k in range(tail)], rest


def _equal_run(a: Ids, b: Ids) -> int:
    unequal = np.flatnonzero(a != b)
    run = int(unequal[0]) if len(unequal) else len(a)
    return run if run >= LEAST_TRIM else 0


def _divided(a: Ids, b: Ids, part: _Rectangle) -> Iterator[_Rectangle]:
    """Yields the smaller rectangles that hold the alignment of a large one."""
    for size in ANCHOR_TOKENS:
        anchors = _anchors(a, b, part, size)
        if anchors:
            a0, b0 = part.a0, part.b0
            for i, j in anchors:
                # The anchor itself opens its rectangle.
                yield _Rectangle(a0, i, b0, j)
                a0, b0 = i, j
            yield _Rectangle(a0, part.a1, b0, part.b1)
            return
    middle = (part.a0 + part.a1) // 2
    if part.a1 - part.a0 < 2:
        where = np.flatnonzero(b[part.b0 : part.b1] == a[part.a0])
        if len(where):
            j = part.b0 + int(where[0])
            yield _Rectangle(part.a0, part.a1, j, j + 1)
        return
    cut = _best_cut(a, b, part, middle) if part.cells <= SPLIT_CELLS else (part.b0 + part.b1) // 2
    yield _Rectangle(part.a0, middle, part.b0, cut)
    yield _Rectangle(middle, part.a1, cut, part.b1)


def _anchors(a: Ids, b: Ids, part: _Rectangle, size: int) -> list[Pair]:
    """Returns where sequences of `size` tokens begin that both parts hold exactly once, in the order of both."""
    ours, theirs = _single(a, part.a0, part.a1, size), _single(b, part.b0, part.b1, size)
    pairs = sorted((i, theirs[key]) for key, i in ours.items() if key in theirs)
    return [(i, j) for i, j in _rising(pairs) if (i, j) != (part.a0, part.b0)]


def _single(ids: Ids, start: int, end: int, size: int) -> dict[bytes, int]:
    """Returns the position of every sequence of `size` tokens that occurs once."""
    seen: dict[bytes, int] = {}
    data = ids[start:end].tobytes()
    for k in range(end - start - size + 1):
        key = data[4 * k : 4 * (k + size)]
        seen[key] = -1 if key in seen else start + k
    return {key: position for key, position in seen.items() if position >= 0}


def _rising(pairs: Sequence[Pair]) -> list[Pair]:
    """Returns a longest part of `pairs`, sorted by the first index, in which the second one rises, too."""
    tails: list[int] = []
    chain: list[int] = []
    before = [-1] * len(pairs)
    for n, (_, j) in enumerate(pairs):
        place = bisect_left(tails, j)
        before[n] = chain[place - 1] if place else -1
        tails[place : place + 1] = [j]
        chain[place : place + 1] = [n]
    result: list[Pair] = []
    n = chain[-1] if chain else -1
    while n >= 0:
        result.append(pairs[n])
        n = before[n]
    return result[::-1]


def _common(a: Ids, b: Ids, part: _Rectangle) -> list[Pair]:
    """Returns a common subsequence that is as long as possible, and of several the one in the fewest runs."""
    ours, theirs = a[part.a0 : part.a1], b[part.b0 : part.b1]
    best = np.zeros((len(ours) + 1, len(theirs) + 1), np.int32)
    ending = np.full_like(best, _NO_MATCH)
    for i, token in enumerate(ours):
        goes_on = np.maximum(best[i, :-1] + MATCH, ending[i, :-1] + MATCH + RUN)
        ending[i + 1, 1:] = np.where(theirs == token, goes_on, _NO_MATCH)
        best[i + 1] = np.maximum.accumulate(np.maximum(best[i], ending[i + 1]))
    return [(part.a0 + i, part.b0 + j) for i, j in _traced(best, ending)]


def _traced(best: Ids, ending: Ids) -> Iterator[Pair]:
    """Yields the matches from the last to the first. `ending` has the score of what ends with a match there."""
    i, j = best.shape[0] - 1, best.shape[1] - 1
    while i and j:
        if best[i, j] == best[i - 1, j]:
            i -= 1
        elif best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            runs = True
            while runs:
                score = ending[i, j]
                i, j = i - 1, j - 1
                yield i, j
                runs = score == ending[i, j] + MATCH + RUN


def _best_cut(a: Ids, b: Ids, part: _Rectangle, middle: int) -> int:
    """Returns where the second part is best cut when the first one is cut at `middle` (Hirschberg)."""
    theirs = b[part.b0 : part.b1]
    upper = _last_row(a[part.a0 : middle], theirs)
    lower = _last_row(a[middle : part.a1][::-1], theirs[::-1])
    return part.b0 + int(np.argmax(upper + lower[::-1]))


def _last_row(ours: Ids, theirs: Ids) -> Ids:
    """Returns the length of the longest common subsequence with each beginning of `theirs`."""
    row = np.zeros(len(theirs) + 1, np.int32)
    for token in ours:
        row[1:] = np.maximum(row[1:], row[:-1] + (theirs == token))
        row = np.maximum.accumulate(row)
    return row
