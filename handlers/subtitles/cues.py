"""Cues made of words: lines that fit, times that neither overlap nor run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from handlers.subtitles.model import Cue, CueLine, Speech, TimedWord
from handlers.subtitles.text import cells, divide, ends_clause, ends_sentence
from handlers.subtitles.words import spread

LONGEST_MS = 7000
SHORTEST_MS = 833
GAP_MS = 80
"""Two frames at 25 a second: without a gap one cue seems to change into the next."""
READ_MS = 50
"""Reading time of a character: 20 a second."""
HANG_MS = 500
"""Longest time that text stays after its last word, to be read to the end."""
PAUSE_MS = 1500
"""A silence that ends a cue."""
SENTENCE_MS = 1000
"""A sentence shorter than this shares its cue with the next one."""
LEAST_MS = 100
"""Length that a cue keeps before it leaves a gap after itself."""


@dataclass(frozen=True, slots=True)
class CueLimits:
    """The limits of one cue."""

    cells: int = 42
    """For one line."""
    lines: int = 2
    words: int | None = None


def make_cues(speech: Speech, room: CueLimits = CueLimits()) -> tuple[Cue, ...]:
    """Makes cues that end with sentences, segments and pauses, else where full, evenly filled: a `Segmenter`."""
    groups: list[tuple[TimedWord, ...]] = []
    for segment in speech.segments:
        for phrase in _phrases(fit_words(segment, room.cells)):
            groups += pack(phrase, room, LONGEST_MS)
    return tuple(_timed(groups, room))


def fit_words(words: Sequence[TimedWord], width: int) -> tuple[TimedWord, ...]:
    """Divides words wider than `width` cells into pieces, which share the word's time."""
    fitted: list[TimedWord] = []
    for word in words:
        bare = word.text.strip()
        if cells(bare) <= width:
            fitted.append(word)
            continue
        space = " " if word.text.startswith(" ") else ""
        first, *rest = divide(bare, width)
        fitted += spread((space + first, *rest), word.start_ms, word.end_ms)
    return tuple(fitted)


def pack(words: Sequence[TimedWord], room: CueLimits, longest_ms: int | None = None) -> list[tuple[TimedWord, ...]]:
    """Makes as few groups as `room` and `longest_ms` permit, about equally full. A group has at least one word."""
    limit = room.words or room.cells * room.lines
    groups = _fill(words, room, limit, longest_ms)
    even = _fill(words, room, min(limit, -(-len(words) // max(1, len(groups)))), longest_ms)
    return even if len(even) == len(groups) else groups


def wrap(words: Sequence[TimedWord], room: CueLimits) -> tuple[CueLine, ...] | None:
    """Breaks `words` into one line or two balanced ones, after punctuation where that costs little; None: no room.

    A lone word wider than the room has its own line.
    """
    widths, leads = _widths(words), _leads(words)
    whole = sum(widths) - leads[0]
    if whole <= room.cells or len(words) == 1:
        return (line_of(words),)
    if room.lines < 2:
        return None
    best: tuple[float, int] | None = None
    used = -leads[0]
    for i in range(1, len(words)):
        used += widths[i - 1]
        rest = whole - used - leads[i]
        if (used > room.cells and i > 1) or (rest > room.cells and i < len(words) - 1):
            continue
        cost = abs(used - rest) + (used > rest) - (8 if ends_clause(words[i - 1].text) else 0)
        if not words[i].text.startswith(" "):
            cost += 4
        best = min(best, (cost, i)) if best else (cost, i)
    return (line_of(words[: best[1]]), line_of(words[best[1] :])) if best else None


def line_of(words: Sequence[TimedWord]) -> CueLine:
    return CueLine("".join(word.text for word in words).strip(), tuple(words))


def _phrases(words: Sequence[TimedWord]) -> list[tuple[TimedWord, ...]]:
    phrases: list[tuple[TimedWord, ...]] = []
    begin = 0
    for i, (word, following) in enumerate(pairwise(words), start=1):
        pause = following.start_ms - word.end_ms
        said = ends_sentence(word.text) and word.end_ms - words[begin].start_ms >= SENTENCE_MS
        if said or pause >= PAUSE_MS:
            phrases.append(tuple(words[begin:i]))
            begin = i
    return [*phrases, tuple(words[begin:])] if words else phrases


def _widths(words: Sequence[TimedWord]) -> list[int]:
    return [cells(word.text) for word in words]


def _leads(words: Sequence[TimedWord]) -> list[int]:
    """Returns the blanks at the words' beginnings, which are not shown where a line begins."""
    return [len(word.text) - len(word.text.lstrip(" ")) for word in words]


class _FitChecker:
    """Checks whether words from `begin` on fit, one after another: each is checked once, in constant time."""

    def __init__(self, words: Sequence[TimedWord], room: CueLimits) -> None:
        self._room = room
        self._leads = _leads(words)
        self._before = [0, *accumulate(_widths(words))]
        self._begin = 0
        self._break = 1

    def begin(self, at: int) -> None:
        self._begin, self._break = at, at + 1

    def holds(self, end: int) -> bool:
        """Returns whether `wrap` has room for the words up to before `end`.

        The later the first line ends, the less is left for the second one, so the last possible end of the first
        decides.
        """
        begin = self._begin
        if end - begin == 1 or self._cells(begin, end) <= self._room.cells:
            return True
        if self._room.lines < 2:
            return False
        while self._break + 1 < end and self._cells(begin, self._break + 1) <= self._room.cells:
            self._break += 1
        return self._break == end - 1 or self._cells(self._break, end) <= self._room.cells

    def _cells(self, begin: int, end: int) -> int:
        return self._before[end] - self._before[begin] - self._leads[begin]


def _fill(
    words: Sequence[TimedWord], room: CueLimits, limit: int, longest_ms: int | None
) -> list[tuple[TimedWord, ...]]:
    groups: list[tuple[TimedWord, ...]] = []
    filling = _FitChecker(words, room)
    begin = 0
    for i, word in enumerate(words):
        long = longest_ms is not None and word.end_ms - words[begin].start_ms > longest_ms
        if i > begin and (i - begin >= limit or long or not filling.holds(i + 1)):
            groups.append(tuple(words[begin:i]))
            begin = i
            filling.begin(i)
    return [*groups, tuple(words[begin:])] if words else groups


def _timed(groups: Sequence[tuple[TimedWord, ...]], room: CueLimits) -> list[Cue]:
    """Times the cues: each starts with its first word and ends when read, within its limits and the next one's gap."""
    starts: list[int] = []
    for group in groups:
        starts.append(max(group[0].start_ms, starts[-1] + 1 if starts else 0))
    cues: list[Cue] = []
    for i, group in enumerate(groups):
        lines = wrap(group, room) or (line_of(group),)
        start, said = starts[i], group[-1].end_ms
        reading = max(SHORTEST_MS, READ_MS * sum(len(line.text) for line in lines))
        end = min(max(said, min(start + reading, said + HANG_MS)), start + LONGEST_MS)
        end = max(end, start + SHORTEST_MS)
        if i + 1 < len(starts):
            room_ms = starts[i + 1] - start
            end = min(end, start + (room_ms - GAP_MS if room_ms >= LEAST_MS + GAP_MS else room_ms))
        cues.append(Cue(start, end, lines))
    return cues
