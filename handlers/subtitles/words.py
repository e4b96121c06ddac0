"""Words with reliable times, made from a recogniser's answer."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import pairwise

from gpu_dispatch.transcript import Segment, Transcript
from handlers.subtitles.model import MAX_MS, Speech, TimedWord
from handlers.subtitles.text import cells, plain_line, tokens
from handlers.subtitles.word_pieces import WordPiece, whole_words

CELL_MS = 70
"""Time of a cell of text whose end is unknown: about 14 cells a second."""


def speech_of(transcript: Transcript) -> Speech:
    """Cleans the transcript's words: keeps all, in order, whole, each longer than 0 ms, none overlapping.

    A start that contradicts most others, or is NaN, is placed between its neighbours; a segment without words has its
    time spread over its text.
    """
    drafts = [_drafts(segment) for segment in transcript.segments]
    words = iter(_assign_times([draft for segment in drafts for draft in segment]))
    segments = (tuple(next(words) for _ in segment) for segment in drafts)
    return Speech(
        language=transcript.language,
        duration_ms=milliseconds(transcript.duration) or 0,
        segments=tuple(segment for segment in segments if segment),
        timed=all(any(plain_line(w.text) for w in s.words) or not plain_line(s.text) for s in transcript.segments),
    )


def milliseconds(seconds: float) -> int | None:
    """Converts seconds, rounded and held within 0 and MAX_MS; None for NaN."""
    if math.isnan(seconds):
        return None
    return round(min(max(seconds, 0.0), MAX_MS / 1000) * 1000)


def spread(texts: tuple[str, ...], start_ms: int, end_ms: int) -> tuple[TimedWord, ...]:
    """Spreads `texts` one after another over the time from start to end, in proportion to their widths."""
    widths = [max(1, cells(text.strip())) for text in texts]
    total, done = max(1, sum(widths)), 0
    words: list[TimedWord] = []
    for text, width in zip(texts, widths, strict=True):
        start = start_ms + (end_ms - start_ms) * done // total
        done += width
        words.append(TimedWord(text, start, start_ms + (end_ms - start_ms) * done // total))
    return tuple(words)


def _drafts(segment: Segment) -> list[WordPiece]:
    start, end = milliseconds(segment.start), milliseconds(segment.end)
    drafts: list[WordPiece] = []
    space = ""
    for word in segment.words:
        text = plain_line(word.text)
        space = " " if space or word.text[:1].isspace() else ""
        if text:
            probability = min(max(word.probability, 0.0), 1.0) if math.isfinite(word.probability) else 0.0
            drafts.append(WordPiece(space + text, milliseconds(word.start), milliseconds(word.end), probability))
            space = " " if word.text[-1:].isspace() else ""
    if drafts:
        return whole_words(drafts)
    if start is None or end is None or end <= start:
        drafts = [WordPiece(text, start if i == 0 else None, None, 1.0) for i, text in enumerate(tokens(segment.text))]
    else:
        drafts = [WordPiece(w.text, w.start_ms, w.end_ms, 1.0) for w in spread(tokens(segment.text), start, end)]
    return whole_words(drafts)


def _assign_times(drafts: list[WordPiece]) -> list[TimedWord]:
    """Gives each draft its times; the drafts between two anchors share the time there."""
    anchors = _anchors([draft.start for draft in drafts])
    words: list[TimedWord] = []
    if not anchors or anchors[0]:
        head = drafts[: anchors[0]] if anchors else drafts
        limit = drafts[anchors[0]].start if anchors else None
        first = 0 if limit is None else max(0, limit - _guess(head))
        words += _fill_interval(head, first, limit)
    for i, j in pairwise([*anchors, len(drafts)]):
        limit = drafts[j].start if j < len(drafts) else None
        words += _fill_interval(drafts[i:j], drafts[i].start or 0, limit)
    return _push_forward(words)


def _anchors(starts: list[int | None]) -> list[int]:
    """Returns the indices of a longest strictly rising subsequence of starts: those that agree with the most others."""
    tails: list[int] = []
    values: list[int] = []
    before: list[int] = [-1] * len(starts)
    for i, start in enumerate(starts):
        if start is None:
            continue
        place = bisect_left(values, start)
        if place < len(values) and values[place] == start:
            continue
        before[i] = tails[place - 1] if place else -1
        tails[place : place + 1] = [i]
        values[place : place + 1] = [start]
    chain: list[int] = []
    i = tails[-1] if tails else -1
    while i >= 0:
        chain.append(i)
        i = before[i]
    return chain[::-1]


def _guess(drafts: list[WordPiece]) -> int:
    return CELL_MS * sum(max(1, cells(draft.text.strip())) for draft in drafts)


def _fill_interval(drafts: list[WordPiece], start: int, limit: int | None) -> list[TimedWord]:
    """Lays `drafts` from `start` to their last known end, never beyond `limit`."""
    ceiling = MAX_MS if limit is None else limit
    ends = [d.end for d in drafts if d.end is not None and start + len(drafts) <= d.end <= ceiling]
    if len(drafts) == 1 and drafts[0].end is not None and drafts[0].end > ceiling:
        ends = [ceiling]
    end = max(ends) if ends else min(start + _guess(drafts), ceiling)
    laid = spread(tuple(draft.text for draft in drafts), start, end)
    return [TimedWord(w.text, w.start_ms, w.end_ms, d.probability) for w, d in zip(laid, drafts, strict=True)]


def _push_forward(words: list[TimedWord]) -> list[TimedWord]:
    """Moves later words forward where there are more words than milliseconds."""
    clock = 0
    settled: list[TimedWord] = []
    for word in words:
        start = max(word.start_ms, clock)
        clock = max(word.end_ms, start + 1)
        settled.append(TimedWord(word.text, start, clock, word.probability))
    return settled
