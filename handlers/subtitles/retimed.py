"""Cues that keep their text, lines and number, and get the times at which their words are said."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from handlers.subtitles.limits import CueLimits
from handlers.subtitles.model import Cue, CueLine, TimedWord
from handlers.subtitles.text import cells, tokens
from handlers.subtitles.words import spread


def retimed_cues(texts: Sequence[str], words: Sequence[TimedWord], limits: CueLimits) -> tuple[Cue, ...]:
    """Makes one cue of each text, whose lines are kept, at the times of its words; joined, `words` are the texts.

    A cue begins with its first word and stays until it can be read, as far as `limits` let it.
    """
    waiting = deque(words)
    spoken = [_dealt(waiting, text) for text in texts]
    starts = _starts(spoken)
    cues: list[Cue] = []
    for text, own, start, after in zip_longest(texts, spoken, starts, starts[1:]):
        said = max(own[-1].end_ms, start + 1) if own else start + 1
        readable = max(limits.shortest_ms, round(1000 * cells(text) / limits.cells_per_s))
        end = max(said, min(start + readable, said + limits.lag_ms))
        if after is not None:
            end = min(end, max(after - limits.gap_ms, min(said, after), start + 1))
        cues.append(Cue(start, end, tuple(_lines(text, own, start, end))))
    return tuple(cues)


def _dealt(waiting: deque[TimedWord], text: str) -> list[TimedWord]:
    """Takes the words of `text` from those that are left, by their letters."""
    size, own, whole = 0, list[TimedWord](), _size(text)
    while waiting and size < whole:
        own.append(waiting.popleft())
        size += _size(own[-1].text)
    return own


def _starts(segments: Sequence[Sequence[TimedWord]]) -> list[int]:
    """Returns when the cues begin; each later than the one before it."""
    starts: list[int] = []
    end = 0
    for words in segments:
        start = words[0].start_ms if words else end
        starts.append(max(start, starts[-1] + 1 if starts else 0))
        end = words[-1].end_ms if words else end
    return starts


def _lines(text: str, words: Sequence[TimedWord], start: int, end: int) -> Iterator[CueLine]:
    waiting = deque(words)
    for line in text.split("\n"):
        own = _dealt(waiting, line)
        fits = sum(_size(word.text) for word in own) == _size(line)
        yield CueLine(line, tuple(own) if fits else spread(tokens(line), *_bounds(own, start, end)))


def _bounds(words: Sequence[TimedWord], start: int, end: int) -> tuple[int, int]:
    return (words[0].start_ms, words[-1].end_ms) if words else (start, end)


def _size(text: str) -> int:
    return sum(not c.isspace() for c in text)
