"""Moves the times of words from where the model's attention lies to where the sound begins and ends.

The attention knows roughly which word is where, and errs by a tenth of a second and more; after a pause it often gives
the whole pause to the next word. The energy knows exactly where sounds begin, but not whose they are. A dynamic
programme over the words weighs both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpu_dispatch.transcript import Segment, Word
from gpu_dispatch.worker.speech.energy import Energy, Floats

REACH_S = 0.8
"""How far, in seconds of sound, a word may be moved to the beginning of a sound."""

STEPS_S = (-0.16, -0.08, 0.0, 0.08, 0.16)
"""Other places of a word, in seconds of sound from where the attention has it."""

PAUSE_S = 0.15
"""A longer silence is none of a word's closures, as before the t of "started": a word ends before it."""

CLOSURE = 8.0
"""Exponent of a pause in PAUSE_S: one of 0.1 s counts for 0.04."""

LATE_S = 0.04
"""By so much the attention is late in fluent speech: the mean over 200 words of tiny.en."""

SHORTEST_WORD_S = 0.02


@dataclass(frozen=True, slots=True)
class Weights:
    """What a placement costs. Found on synthetic speech with known onsets, by `benchmarks/word_times.py`."""

    moved: float = 4.0
    """For each second of sound between the attention's place and the word's."""
    inside: float = 0.5
    """For a start within a stretch of sound; the less, the longer the silence before it."""
    past: float = 3.0
    """For a start after all of the sound in which the attention has the word."""
    crossed: float = 6.0
    """For a pause of PAUSE_S or more within a word. A shorter one costs much less: it may be a closure."""
    length: float = 0.7
    """For each factor of e between a word's seconds of sound and those its letters ask for."""
    late: float = LATE_S
    """By so much a word's start is late, in seconds of sound; 0 for words that were moved before."""


WEIGHTS = Weights()
SETTLED = Weights(late=0.0)
"""For words whose times are already those of the sound."""


@dataclass(frozen=True, slots=True)
class _Places:
    """Where one word can start: times, seconds of sound before them, and the cost of each."""

    times: Floats
    sounding: Floats
    costs: Floats


def refined(segments: Sequence[Segment], energy: Energy, duration: float, weights: Weights = WEIGHTS) -> list[Segment]:
    """Returns `segments`, in order, with better word times, and their own times after those of their words.

    Every word lasts SHORTEST_WORD_S or longer if `duration`, the recording's in seconds, allows it.
    """
    words = [word for segment in segments for word in segment.words]
    if not words:
        return [_narrowed(segment, energy) for segment in segments]
    placed = _with_ends(words, _starts(words, energy, weights), energy) if len(energy.starts) else words
    placed = _lasting(placed, duration)
    result: list[Segment] = []
    at = 0
    for segment in segments:
        mine = tuple(placed[at : at + len(segment.words)])
        at += len(mine)
        times = {"start": mine[0].start, "end": mine[-1].end} if mine else {}
        result.append(replace(segment, words=mine, **times))
    return result


def _narrowed(segment: Segment, energy: Energy) -> Segment:
    """Returns a segment without words, less the silence at its beginning and end."""
    inside = energy.between(segment.start, segment.end)
    if inside.start > 0 and energy.ends[inside.start - 1] > segment.start:
        start = segment.start
    else:
        start = float(energy.starts[inside.start]) if inside.stop > inside.start else segment.start
    last = float(energy.ends[inside.stop - 1]) if inside.stop > 0 else segment.end
    return replace(segment, start=start, end=min(segment.end, last) if last > start else segment.end)


def _lasting(words: Sequence[Word], duration: float) -> list[Word]:
    """Returns `words` with starts at least SHORTEST_WORD_S apart and from the end, and none shorter than that."""
    least = min(SHORTEST_WORD_S, duration / len(words))
    starts: list[float] = []
    for i, word in enumerate(words):
        latest = duration - least * (len(words) - i)
        starts.append(min(max(word.start, starts[-1] + least if starts else 0.0), latest))
    limits = [*starts[1:], duration]
    return [
        replace(word, start=round(start, 3), end=round(min(max(word.end, start + least), limit), 3))
        for word, start, limit in zip(words, starts, limits, strict=True)
    ]


def _starts(words: Sequence[Word], energy: Energy, weights: Weights) -> Floats:
    """Returns the cheapest increasing starts."""
    expected = _expected(words, energy)
    crossed = _crossed(energy, weights)
    places = [_places(word, energy, weights) for word in words]
    total = places[0].costs
    back: list[NDArray[np.intp]] = []
    for i in range(1, len(words)):
        costs = total[:, None] + _between(places[i - 1], places[i], expected[i - 1], energy, crossed, weights)
        best = costs.argmin(axis=0)
        back.append(best)
        total = costs[best, np.arange(len(best))] + places[i].costs
    choice = int(total.argmin())
    chosen = [choice]
    for best in reversed(back):
        choice = int(best[choice])
        chosen.append(choice)
    return np.array([place.times[c] for place, c in zip(places, reversed(chosen), strict=True)])


def _places(word: Word, energy: Energy, weights: Weights) -> _Places:
    here = max(float(energy.sounding(word.start)) - weights.late, 0.0)
    near = energy.moment(np.array([here - REACH_S, here + REACH_S]))
    onsets = energy.starts[energy.between(near[0], near[1] + 1e-6)]
    steps = energy.moment(np.maximum(here + np.array(STEPS_S), 0.0))
    times = np.unique(np.concatenate([onsets, steps]).round(4))
    sounding = energy.sounding(times)
    at_onset = np.minimum(energy.pause_before(times) / PAUSE_S, 1.0)
    last = float(energy.sounding(word.end))
    past = (sounding >= last) & (last - here > 2 * LATE_S)
    costs = weights.moved * np.abs(sounding - here) + weights.inside * (1.0 - at_onset) + weights.past * past
    return _Places(times, sounding, costs)


def _crossed(energy: Energy, weights: Weights) -> Floats:
    """Returns, for each stretch and for the end, what a word pays that crosses all pauses before it."""
    gaps = energy.starts[1:] - energy.ends[:-1]
    costs = weights.crossed * np.minimum(gaps / PAUSE_S, 1.0) ** CLOSURE
    return np.concatenate([[0.0, 0.0], np.cumsum(costs)])


def _between(a: _Places, b: _Places, expected: float, energy: Energy, crossed: Floats, weights: Weights) -> Floats:
    """Returns what it costs that a word starts at each place of `a` and the next one at each of `b`."""
    length = b.sounding[None, :] - a.sounding[:, None]
    cost = weights.length * np.abs(np.log((np.maximum(length, 0.0) + 0.03) / (expected + 0.03)))
    after = crossed[np.searchsorted(energy.starts, a.times, side="right")]
    until = crossed[np.searchsorted(energy.starts, b.times, side="left")]
    cost += np.maximum(until[None, :] - after[:, None], 0.0)
    return np.where(length < SHORTEST_WORD_S, 1e3 - 1e3 * np.minimum(length, 0.0), cost)


def _expected(words: Sequence[Word], energy: Energy) -> Floats:
    """Returns each word's share of the sound around it, by its letters and one more."""
    letters = np.array([1.0 + sum(c.isalnum() for c in word.text) for word in words])
    ends = energy.sounding(np.array([word.end for word in words]))
    starts = energy.sounding(np.array([word.start for word in words]))
    rate = max(float((ends - starts).sum() / letters.sum()), 0.02)
    return letters * rate


def _with_ends(words: Sequence[Word], starts: Floats, energy: Energy) -> list[Word]:
    result: list[Word] = []
    for i, word in enumerate(words):
        start = float(starts[i])
        limit = float(starts[i + 1]) if i + 1 < len(words) else float(energy.ends[-1])
        end = _end(start, max(limit, start), energy)
        result.append(replace(word, start=start, end=end))
    return result


def _end(start: float, limit: float, energy: Energy) -> float:
    """Returns where the sound that begins at `start` pauses, `limit` at the latest."""
    i = int(np.searchsorted(energy.starts, start + 1e-3, side="right")) - 1
    while i + 1 < len(energy.starts) and energy.starts[i + 1] < limit - 1e-3:
        if energy.starts[i + 1] - energy.ends[i] >= PAUSE_S:
            break
        i += 1
    return min(max(float(energy.ends[max(i, 0)]), start), limit)
