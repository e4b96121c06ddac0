"""Where the words of a script are in a recording, as far as recognition shows it, and the gaps that remain."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from gpu_dispatch.transcript import Word
from gpu_dispatch.worker.speech.script_words import ScriptWord, atoms_of
from gpu_dispatch.worker.speech.text_match import Pair, match_tokens

SURE_RUN = 3
"""So many words in a row that agree, or twice as many characters of a script without spaces, are no coincidence: two
unrelated texts share "of the", but few longer runs."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When a word is said, in seconds of the recording."""

    start: float
    end: float
    probability: float


@dataclass(frozen=True, slots=True)
class ScriptGap:
    """Script words without a partner among those heard, and what was heard in their place; one of both may be empty."""

    first: int
    end: int
    """Index after the last script word."""
    heard: int
    heard_end: int

    @property
    def written(self) -> range:
        return range(self.first, self.end)


@dataclass(frozen=True, slots=True)
class ScriptPlaces:
    """A script compared with what was heard."""

    timings: tuple[Timing | None, ...]
    """By script word; None inside a gap."""
    gaps: tuple[ScriptGap, ...]
    overlap: float
    """Share of the shorter text that agrees with the other one in sure runs, from 0 to 1."""


def find_places(script: Sequence[ScriptWord], heard: Sequence[Word]) -> ScriptPlaces:
    """Compares the words of a script with those that were recognised, both in order."""
    ours = [(atom, k) for k, word in enumerate(script) for atom in word.atoms]
    theirs = [(atom, k) for k, word in enumerate(heard) for atom in atoms_of(word.text)]
    pairs = match_tokens([atom for atom, _ in ours], [atom for atom, _ in theirs])
    times = _atom_times(heard, theirs)
    timings: list[Timing | None] = [None] * len(script)
    spans: list[tuple[int, int, int]] = []
    partner = dict(pairs)
    at = 0
    for k, word in enumerate(script):
        found = [partner[n] for n in range(at, at + len(word.atoms)) if n in partner]
        at += len(word.atoms)
        if len(found) == len(word.atoms):
            probability = min(heard[theirs[n][1]].probability for n in found)
            timings[k] = Timing(times[found[0]][0], times[found[-1]][1], probability)
            spans.append((k, theirs[found[0]][1], theirs[found[-1]][1]))
    gaps: list[ScriptGap] = []
    for gap in _gaps(spans, len(script), len(heard)):
        spelt = _spelt_apart(gap, script, heard)
        if spelt:
            timings[gap.first : gap.end] = spelt
        else:
            gaps.append(gap)
    return ScriptPlaces(tuple(timings), tuple(gaps), _overlap(pairs, [a for a, _ in ours], len(theirs)))


def _gaps(spans: Sequence[tuple[int, int, int]], script: int, heard: int) -> list[ScriptGap]:
    bounds = [(-1, -1, -1), *spans, (script, heard, heard)]
    found = [ScriptGap(a[0] + 1, b[0], a[2] + 1, max(a[2] + 1, b[1])) for a, b in pairwise(bounds)]
    return [gap for gap in found if gap.end > gap.first or gap.heard_end > gap.heard]


def _spelt_apart(gap: ScriptGap, script: Sequence[ScriptWord], heard: Sequence[Word]) -> list[Timing | None]:
    """Returns the times of words that were heard with other spaces ("some one", "e-mail"); [] for other gaps."""
    written = ["".join(script[k].atoms) for k in gap.written]
    said = ["".join(atoms_of(word.text)) for word in heard[gap.heard : gap.heard_end]]
    if not written or "".join(written) != "".join(said):
        return []
    ends = list(accumulate(map(len, said)))
    result: list[Timing | None] = []
    at = 0
    for text in written:
        first, last = (min(bisect_right(ends, n), len(ends) - 1) for n in (at, at + len(text) - 1))
        own = heard[gap.heard + first], heard[gap.heard + last]
        start = _moment(own[0], at - ends[first] + len(said[first]), len(said[first]))
        end = _moment(own[1], at + len(text) - ends[last] + len(said[last]), len(said[last]))
        result.append(Timing(start, max(start, end), min(word.probability for word in own)))
        at += len(text)
    return result


def _atom_times(heard: Sequence[Word], atoms: Sequence[tuple[str, int]]) -> list[tuple[float, float]]:
    """Shares each heard word's time among its atoms by their lengths."""
    whole: dict[int, int] = {}
    for atom, k in atoms:
        whole[k] = whole.get(k, 0) + len(atom)
    times: list[tuple[float, float]] = []
    done, last = 0, -1
    for atom, k in atoms:
        done = done if k == last else 0
        last = k
        times.append((_moment(heard[k], done, whole[k]), _moment(heard[k], done + len(atom), whole[k])))
        done += len(atom)
    return times


def _moment(word: Word, characters: int, whole: int) -> float:
    return word.start + (word.end - word.start) * characters / max(1, whole)


def _overlap(pairs: Sequence[Pair], ours: Sequence[str], theirs: int) -> float:
    shorter = min(len(ours), theirs)
    if not shorter:
        return 0.0
    run, sure = 0, 0
    need = min(SURE_RUN if sum(map(len, ours)) >= 2 * len(ours) else 2 * SURE_RUN, shorter)
    for n, (i, j) in enumerate(pairs):
        run = run + 1 if n and (i - pairs[n - 1][0], j - pairs[n - 1][1]) == (1, 1) else 1
        sure += need if run == need else run > need
    return sure / shorter
