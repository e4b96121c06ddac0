"""Cues out of words: lines that fit, times that neither overlap nor run on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from handlers.subtitles.model import Cue, Line, Speech, TimedWord
from handlers.subtitles.text import cells, divide, ends_clause, ends_sentence
from handlers.subtitles.words import spread

LONGEST_MS = 7000
SHORTEST_MS = 833
GAP_MS = 80
"""Two frames at 25 a second: without them one cue seems to change into the next."""
READ_MS = 50
"""Reading time of a character: 20 a second."""
HANG_MS = 500
"""How long text may stay after its last word, to be read to the end."""
PAUSE_MS = 1500
"""A silence that ends a cue."""
SENTENCE_MS = 1000
"""A sentence shorter than this shares its cue with the next one."""
LEAST_MS = 100
"""What a cue keeps before it leaves a gap after itself."""


@dataclass(frozen=True, slots=True)
class Room:
    """What one cue may hold."""

    cells: int = 42
    lines: int = 2
    words: int | None = None


def make_cues(speech: Speech, room: Room = Room()) -> tuple[Cue, ...]:
    """A `Segmenter`: cues end with sentences, segments and pauses, else where they are full, evenly filled."""
    groups: list[tuple[TimedWord, ...]] = []
    for segment in speech.segments:
        for phrase in _phrases(fit_words(segment, room.cells)):
            groups += pack(phrase, lambda words: _span(words) <= LONGEST_MS and wrap(words, room) is not None, room)
    return tuple(_timed(groups, room))


def fit_words(words: Sequence[TimedWord], width: int) -> tuple[TimedWord, ...]:
    """Words wider than `width` cells in pieces, which share the word's time."""
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


def pack(
    words: Sequence[TimedWord], fits: Callable[[Sequence[TimedWord]], bool], room: Room
) -> list[tuple[TimedWord, ...]]:
    """As few groups as fit, and those about equally full. One word is always a group."""
    limit = room.words or room.cells * room.lines
    groups = _fill(words, fits, limit)
    even = _fill(words, fits, min(limit, -(-len(words) // max(1, len(groups)))))
    return even if len(even) == len(groups) else groups


def wrap(words: Sequence[TimedWord], room: Room) -> tuple[Line, ...] | None:
    """`words` in one line or two balanced ones, broken after punctuation where that costs little; None: no room.

    A lone word wider than the room has its line to itself.
    """
    widths = [cells(word.text) for word in words]
    leads = [len(word.text) - len(word.text.lstrip(" ")) for word in words]
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


def line_of(words: Sequence[TimedWord]) -> Line:
    return Line("".join(word.text for word in words).strip(), tuple(words))


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


def _fill(
    words: Sequence[TimedWord], fits: Callable[[Sequence[TimedWord]], bool], limit: int
) -> list[tuple[TimedWord, ...]]:
    groups: list[tuple[TimedWord, ...]] = []
    current: list[TimedWord] = []
    for word in words:
        if current and (len(current) >= limit or not fits([*current, word])):
            groups.append(tuple(current))
            current = []
        current.append(word)
    return [*groups, tuple(current)] if current else groups


def _span(words: Sequence[TimedWord]) -> int:
    return words[-1].end_ms - words[0].start_ms


def _timed(groups: Sequence[tuple[TimedWord, ...]], room: Room) -> list[Cue]:
    """Starts with the first word; ends when it has been read, never beyond its limits nor within a gap of the next."""
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
