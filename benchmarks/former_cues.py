"""The rule by which cues were cut before, kept to be compared with: segment by segment, each as full as it fits."""

from __future__ import annotations

from itertools import pairwise

from handlers.subtitles.cues import CueLimits, fit_words, line_of, pack, wrap
from handlers.subtitles.model import Cue, Speech, TimedWord
from handlers.subtitles.text import ends_sentence

ROOM = CueLimits()
PAUSE_MS, SENTENCE_MS, LEAST_MS = 1500, 1000, 100


def former_cues(speech: Speech) -> tuple[Cue, ...]:
    groups: list[tuple[TimedWord, ...]] = []
    for segment in speech.segments:
        for phrase in _phrases(fit_words(segment, ROOM.cells)):
            groups += pack(phrase, ROOM, ROOM.longest_ms)
    cues: list[Cue] = []
    for i, group in enumerate(groups):
        lines = wrap(group, ROOM) or (line_of(group),)
        start, said = group[0].start_ms, group[-1].end_ms
        reading = max(ROOM.shortest_ms, 50 * sum(len(line.text) for line in lines))
        end = min(max(said, min(start + reading, said + ROOM.lag_ms)), start + ROOM.longest_ms)
        end = max(end, start + ROOM.shortest_ms)
        if i + 1 < len(groups):
            room = groups[i + 1][0].start_ms - start
            end = min(end, start + (room - ROOM.gap_ms if room >= LEAST_MS + ROOM.gap_ms else room))
        cues.append(Cue(start, end, lines))
    return tuple(cues)


def _phrases(words: tuple[TimedWord, ...]) -> list[tuple[TimedWord, ...]]:
    phrases: list[tuple[TimedWord, ...]] = []
    begin = 0
    for i, (word, following) in enumerate(pairwise(words), start=1):
        said = ends_sentence(word.text) and word.end_ms - words[begin].start_ms >= SENTENCE_MS
        if said or following.start_ms - word.end_ms >= PAUSE_MS:
            phrases.append(tuple(words[begin:i]))
            begin = i
    return [*phrases, tuple(words[begin:])] if words else phrases
