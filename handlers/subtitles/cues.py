"""Cues made of words: lines that fit, times that neither overlap nor run on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from handlers.subtitles.breaks import Break, breaks_of
from handlers.subtitles.cue_times import ENDLESS_MS, snapped, timed
from handlers.subtitles.limits import BROADCAST, CueLimits
from handlers.subtitles.model import Cue, CueLine, Speech, TimedWord
from handlers.subtitles.segmentation import CueCut, divide_words
from handlers.subtitles.text import cells, divide, ends_clause, is_spaceless
from handlers.subtitles.words import spread

STRETCH = 2000
"""Words that are divided together; more would only take more memory."""


def make_cues(speech: Speech, limits: CueLimits = BROADCAST, cuts_ms: Sequence[int] = ()) -> tuple[Cue, ...]:
    """Makes the best cues of the speech's words, whatever segments they were recognised in.

    `cuts_ms`, which rise, are times at which the picture changes: cues begin and end with it where speech allows.
    """
    words = fit_words(_connected(speech), limits.cells)
    untimed: list[Cue] = []
    for stretch, breaks, following_ms in _stretches(words, speech.language):
        cuts = divide_words(stretch, breaks, limits, cuts_ms, following_ms)
        untimed += (Cue(0, 0, _lines(stretch, cut)) for cut in cuts)
    cues = timed(untimed, limits)
    return snapped(cues, cuts_ms, limits) if cuts_ms else tuple(cues)


def _connected(speech: Speech) -> list[TimedWord]:
    """Returns all words; the first of a segment has a space before it where its script needs one."""
    words: list[TimedWord] = []
    for segment in speech.segments:
        first, *rest = segment
        if words and not (first.text.startswith(" ") or is_spaceless(words[-1].text[-1:] + first.text[:1])):
            first = replace(first, text=" " + first.text)
        words += [first, *rest]
    return words


def _stretches(words: Sequence[TimedWord], language: str) -> Iterator[tuple[Sequence[TimedWord], Sequence[Break], int]]:
    """Yields stretches of words with their breaks and the start of what follows; long ones end with a sentence."""
    begin = 0
    while begin < len(words):
        stretch = words[begin : begin + STRETCH]
        breaks = breaks_of(stretch, language)
        if begin + STRETCH < len(words):
            whole = next((i for i in range(len(stretch) - 1, STRETCH // 2, -1) if breaks[i].sentence), len(stretch))
            stretch, breaks = stretch[:whole], breaks[:whole]
        begin += len(stretch)
        yield stretch, breaks, words[begin].start_ms if begin < len(words) else ENDLESS_MS


def _lines(words: Sequence[TimedWord], cut: CueCut) -> tuple[CueLine, ...]:
    return tuple(line_of(words[begin:end]) for begin, end in pairwise((cut.begin, *cut.ends)))


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
