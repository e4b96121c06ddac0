"""Parser of subtitle documents: bytes of any common format and encoding become cues that can be drawn."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from handlers.subtitles.ass import read_ass
from handlers.subtitles.cues import line_of, make_cues
from handlers.subtitles.limits import BROADCAST
from handlers.subtitles.model import Cue, Segmenter, Subtitles, TimedWord
from handlers.subtitles.raw_cues import (
    MAX_LINES,
    MAX_TAGS,
    RawCue,
    check_count,
    check_cue,
    check_marks,
    check_words,
    subtitles_unreadable,
)
from handlers.subtitles.srt import read_srt
from handlers.subtitles.text import gap, tokens
from handlers.subtitles.vtt import read_vtt
from handlers.subtitles.words import speech_of, spread
from handlers.subtitles.wordsjson import read_words_json

_UNENDED_MS = 1000
"""Length of a cue whose end is not after its start."""
_FIRST_MARK = re.compile(
    r"^[ \t]*(?:(?P<ass>\[(?:script info|events|v4\+? styles)\]|dialogue:)|\d[\d:.,]*[ \t]*--?>)",
    re.IGNORECASE | re.MULTILINE,
)
"""ASS, or a timing line of SRT, whose text may look like ASS."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def parse_subtitles(data: bytes, segmenter: Segmenter = make_cues) -> Subtitles:
    """Parses SRT, WebVTT, ASS or words.json, told apart by content. `segmenter` makes cues of words.json.

    Cues are in order; those that start together become one, and an earlier one ends where the next begins. Raises
    SubtitlesUnreadable, naming the line and what was expected there.
    """
    text = decode_subtitles(data)
    head = text.lstrip()[:2000]
    if head.startswith(("{", "[")) and not re.match(r"\[[A-Za-z0-9+ ]+\]|\{\\|\{\d", head):
        return _from_words(text, segmenter)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    check_marks(text, "\n", MAX_LINES, "lines")
    read, marks = _reader(head, text)
    for mark in marks:
        check_marks(text, mark, MAX_TAGS, f"signs {mark}")
    return _arranged_cues(read(text.split("\n")))


def _reader(head: str, text: str) -> tuple[Callable[[Sequence[str]], list[RawCue]], str]:
    """Returns the reader of `text`, and the characters with which its markup begins."""
    if head.startswith("WEBVTT"):
        return read_vtt, "<&"
    mark = _FIRST_MARK.search(text)
    return (read_ass, "{") if mark and mark["ass"] else (read_srt, "<{")


def decode_subtitles(data: bytes) -> str:
    """Decodes UTF-8, UTF-16 or UTF-32, or else Windows' Western code page, which includes Latin-1."""
    for bom, name in _BOMS:
        if data.startswith(bom):
            return _checked(data[len(bom) :].decode(name, "replace"))
    sample = data[:4096]
    if sample[1::2].count(0) * 3 > len(sample) > 3:
        return _checked(data.decode("utf-16-le", "replace"))
    if sample[::2].count(0) * 3 > len(sample) > 3:
        return _checked(data.decode("utf-16-be", "replace"))
    for name in ("utf-8", "cp1252", "latin-1"):
        try:
            return _checked(data.decode(name))
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 decodes every byte")


def _checked(text: str) -> str:
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise subtitles_unreadable("it is a binary file", line, "text")
    return text


def _from_words(text: str, segmenter: Segmenter) -> Subtitles:
    transcript = read_words_json(text)
    speech = speech_of(transcript)
    cues = segmenter(speech, BROADCAST)
    check_count(len(cues), 1)
    return Subtitles(cues, transcript.language, speech.timed)


def _arranged_cues(raw: Sequence[RawCue]) -> Subtitles:
    """Puts cues in order, without overlap, each line with its words."""
    heard = sorted((_ended(cue) for cue in raw if cue.lines), key=lambda cue: cue.start_ms)
    if not heard:
        raise subtitles_unreadable("its cues are empty", raw[0].line, "text below the timing")
    merged = _merged(heard)
    ends = [min(cue.end_ms, after.start_ms) for cue, after in pairwise(merged)]
    cues: list[Cue] = []
    words = 0
    for cue, end in zip(merged, [*ends, merged[-1].end_ms], strict=True):
        cues.append(_cue(cue, end))
        words += sum(len(line.words) for line in cues[-1].lines)
        check_words(words, cue.line)
    return Subtitles(tuple(cues), timed=all(cue.words for cue in merged))


def _ended(cue: RawCue) -> RawCue:
    return cue if cue.end_ms > cue.start_ms else replace(cue, end_ms=cue.start_ms + _UNENDED_MS)


@dataclass(slots=True)
class _Merged:
    """Raw cues that become one."""

    first: RawCue
    end_ms: int
    lines: list[str]
    words: list[tuple[TimedWord, ...]]
    characters: int

    @classmethod
    def of(cls, cue: RawCue) -> _Merged:
        return cls(cue, cue.end_ms, list(cue.lines), list(cue.words), sum(map(len, cue.lines)))

    def repeats(self, cue: RawCue) -> bool:
        """Returns whether `cue` is another layer, or the next step, of the same text."""
        near = cue.start_ms < self.end_ms + (0 if cue.words else 1)
        return near and len(self.lines) == len(cue.lines) and tuple(self.lines) == cue.lines

    def add(self, cue: RawCue) -> None:
        if self.words and cue.words:
            self.words += cue.words
        else:
            self.words = []
        self.lines += cue.lines
        self.characters += sum(map(len, cue.lines))

    def cue(self) -> RawCue:
        return replace(self.first, end_ms=self.end_ms, lines=tuple(self.lines), words=tuple(self.words))


def _merged(cues: Sequence[RawCue]) -> list[RawCue]:
    """Merges layers and steps of one text, and different texts that start together."""
    merged: list[_Merged] = []
    for cue in cues:
        last = merged[-1] if merged else None
        if last and last.repeats(cue):
            last.end_ms = max(last.end_ms, cue.end_ms)
        elif last and last.first.start_ms == cue.start_ms:
            last.add(cue)
            last.end_ms = max(last.end_ms, cue.end_ms)
        else:
            last = _Merged.of(cue)
            merged.append(last)
            check_count(len(merged), cue.line)
        check_cue(last.characters, cue.line)
    return [each.cue() for each in merged]


def _cue(cue: RawCue, end: int) -> Cue:
    if cue.words:
        rows = [[_within(word, cue.start_ms, end) for word in row] for row in cue.words]
    else:
        rows = _spread_lines(cue.lines, cue.start_ms, end)
    for before, row in pairwise(rows):
        space = gap(before[-1].text, row[0].text)
        row[0] = replace(row[0], text=space + row[0].text)
    return Cue(cue.start_ms, end, tuple(line_of(row) for row in rows))


def _within(word: TimedWord, start: int, end: int) -> TimedWord:
    begin = min(max(word.start_ms, start), end)
    return replace(word, start_ms=begin, end_ms=min(max(word.end_ms, begin), end))


def _spread_lines(lines: Sequence[str], start: int, end: int) -> list[list[TimedWord]]:
    """Spreads the cue's time over its words by their widths."""
    rows = [tokens(line) for line in lines]
    words = iter(spread(tuple(text for row in rows for text in row), start, end))
    return [[next(words) for _ in row] for row in rows]
