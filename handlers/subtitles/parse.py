"""Subtitle documents read: bytes of any common format and encoding → cues that can be drawn."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from handlers.subtitles.ass_read import read_ass
from handlers.subtitles.cues import line_of, make_cues
from handlers.subtitles.model import Cue, Line, Segmenter, Subtitles, TimedWord
from handlers.subtitles.reading import RawCue, check_count, unreadable
from handlers.subtitles.srt import read_srt
from handlers.subtitles.text import tokens
from handlers.subtitles.vtt import read_vtt
from handlers.subtitles.words import speech_of, spread
from handlers.subtitles.wordsjson import read_words_json

MAX_CUE_CHARACTERS = 2_000
_UNENDED_MS = 1000
"""Length of a cue whose end is not after its start."""
_ASS = re.compile(r"[ \t]*(?:\[(?:script info|events|v4\+? styles)\]|dialogue:)", re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\r|\n")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def parse_subtitles(data: bytes, segmenter: Segmenter = make_cues) -> Subtitles:
    """SRT, WebVTT, ASS or words.json, told apart by content. `segmenter` makes cues of words.json.

    Cues come out in order; those that start together are one, an earlier one ends where the next begins.
    Raises SubtitlesUnreadable, naming the line and what was expected there.
    """
    text = decode(data)
    head = text.lstrip()[:2000]
    if head.startswith(("{", "[")) and not re.match(r"\[[A-Za-z0-9+ ]+\]|\{\\|\{\d", head):
        return _from_words(text, segmenter)
    lines = _LINE_END.split(text)
    if head.startswith("WEBVTT"):
        cues = read_vtt(lines)
    elif any(_ASS.match(line) for line in lines):
        cues = read_ass(lines)
    else:
        cues = read_srt(lines)
    return _settled(cues)


def decode(data: bytes) -> str:
    """Text in UTF-8, UTF-16 or UTF-32, or else in Windows' Western code page, which holds Latin-1."""
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
        raise unreadable("it is a binary file", line, "text")
    return text


def _from_words(text: str, segmenter: Segmenter) -> Subtitles:
    transcript = read_words_json(text)
    speech = speech_of(transcript)
    cues = segmenter(speech)
    check_count(len(cues), 1)
    return Subtitles(cues, transcript.language, speech.timed)


def _settled(raw: Sequence[RawCue]) -> Subtitles:
    """Cues in order, without overlap; each line with its words."""
    heard = sorted((_ended(cue) for cue in raw if cue.lines), key=lambda cue: cue.start_ms)
    if not heard:
        raise unreadable("its cues are empty", raw[0].line, "text below the timing")
    merged = _merged(heard)
    check_count(len(merged), merged[-1].line)
    ends = [min(cue.end_ms, after.start_ms) for cue, after in pairwise(merged)]
    cues = tuple(_cue(cue, end) for cue, end in zip(merged, [*ends, merged[-1].end_ms], strict=True))
    return Subtitles(cues, timed=all(cue.words for cue in merged))


def _ended(cue: RawCue) -> RawCue:
    return cue if cue.end_ms > cue.start_ms else replace(cue, end_ms=cue.start_ms + _UNENDED_MS)


def _merged(cues: Sequence[RawCue]) -> list[RawCue]:
    """Layers and steps of one text are one cue; different texts that start together share one."""
    merged: list[RawCue] = []
    for cue in cues:
        last = merged[-1] if merged else None
        if last and last.lines == cue.lines and cue.start_ms < last.end_ms + (0 if cue.words else 1):
            merged[-1] = replace(last, end_ms=max(last.end_ms, cue.end_ms))
        elif last and last.start_ms == cue.start_ms:
            words = (*last.words, *cue.words) if last.words and cue.words else ()
            lines = (*last.lines, *cue.lines)
            merged[-1] = replace(last, end_ms=max(last.end_ms, cue.end_ms), lines=lines, words=words)
        else:
            merged.append(cue)
        if sum(len(line) for line in merged[-1].lines) > MAX_CUE_CHARACTERS:
            raise unreadable(f"a cue is longer than {MAX_CUE_CHARACTERS} characters", cue.line, "a blank line after it")
    return merged


def _cue(cue: RawCue, end: int) -> Cue:
    if not cue.words:
        return Cue(cue.start_ms, end, _spread_lines(cue.lines, cue.start_ms, end))
    lines = tuple(line_of([_within(word, cue.start_ms, end) for word in row]) for row in cue.words)
    return Cue(cue.start_ms, end, lines)


def _within(word: TimedWord, start: int, end: int) -> TimedWord:
    begin = min(max(word.start_ms, start), end)
    return replace(word, start_ms=begin, end_ms=min(max(word.end_ms, begin), end))


def _spread_lines(lines: Sequence[str], start: int, end: int) -> tuple[Line, ...]:
    """The cue's time spread over its words by their widths."""
    rows = [tokens(line) for line in lines]
    words = iter(spread(tuple(text for row in rows for text in row), start, end))
    return tuple(line_of([next(words) for _ in row]) for row in rows)
