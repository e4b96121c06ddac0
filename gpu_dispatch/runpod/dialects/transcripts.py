"""Parses transcripts of published workers: a language, a list of segments, and a separate flat list of words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpu_dispatch.runpod.dialects.values import lenient_fields, lenient_items, lenient_number, lenient_text
from gpu_dispatch.speech_names import UNDETERMINED, language_candidates
from gpu_dispatch.transcript import Segment, Transcript, Word

_CODES = (
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id"
    " is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd"
    " si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo zh yue"
)
CODES = frozenset(_CODES.split())
_YUE_MODELS = frozenset({"large-v3", "turbo"})
"""Older models were trained without Cantonese."""

_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})


def known_language_code(tag: str, model: str) -> str | None:
    """Returns Whisper's code for a tag such as "pt", "pt-BR" or "EN"; None where `model` lacks the language."""
    for code in language_candidates(tag):
        if code in CODES and (code != "yue" or model in _YUE_MODELS):
            return code
    return None


def spaced(language: str) -> bool:
    """Whether words of `language` are written with spaces between them."""
    return language not in _UNSPACED


BOUNDARY_S = 0.5
"""Seconds; a word whose distances to two segments differ by no more goes to the segment whose text has it."""

_LANGUAGE = re.compile(r"[a-z]{2,3}")
_REACH = 1000
"""Characters of a text that are searched for its next word; to the end it would take hours for a hostile answer."""
_LATEST_S = 360_000.0
"""Seconds; later times are cut to a hundred hours."""


@dataclass(frozen=True, slots=True)
class ForeignTranscript:
    """A worker's output; its fields may have any shape."""

    fields: Mapping[str, Any]

    @property
    def language(self) -> str:
        code = lenient_text(self.fields.get("detected_language")).lower()
        return code if _LANGUAGE.fullmatch(code) else UNDETERMINED

    @property
    def device(self) -> str:
        return lenient_text(self.fields.get("device")) or "unknown"

    def transcript(self, engine: str, segments: Sequence[Segment] | None = None) -> Transcript:
        """Returns the transcript of `segments`, or of the output's own; it ends with its last segment."""
        found = self._segments() if segments is None else list(segments)
        return Transcript(
            language=self.language,
            language_probability=0.0,
            duration=max((s.end for s in found), default=0.0),
            segments=tuple(replace(s, id=i) for i, s in enumerate(found)),
            model=lenient_text(self.fields.get("model")),
            engine=engine,
            device=self.device,
        )

    def _segments(self) -> list[Segment]:
        gap = " " if spaced(self.language) else ""
        given = [_segment(one, gap) for one in lenient_items(self.fields.get("segments"))]
        segments = sorted((s for s in given if s.text.strip()), key=lambda s: s.start)
        words = [w for w in map(_word, lenient_items(self.fields.get("word_timestamps"))) if w.text.strip()]
        if words and not segments:
            text = gap + lenient_text(self.fields.get("transcription")).strip()
            segments = [Segment(0, words[0].start, max(w.end for w in words), text)]
        if not words:
            return segments
        stripped = not any(word.text[:1].isspace() for word in words)
        placed = place(segments, words)
        return [replace(s, words=_respaced(s, gap)) for s in placed] if stripped else placed


def place(segments: Sequence[Segment], words: Sequence[Word]) -> list[Segment]:
    """Distributes `words`, keeping their order, to the segment whose text has them or whose times are nearest.

    A segment is extended to the end of its last word. `segments` are in order, at least one, none of them blank.
    """
    held: list[list[Word]] = [[] for _ in segments]
    texts = [_letters(segment.text) for segment in segments]
    matched = [0] * len(segments)
    at = 0
    for word in words:
        letters = _letters(word.text)
        while at + 1 < len(segments):
            two = slice(at, at + 2)
            nexts = [text.startswith(letters, done) for text, done in zip(texts[two], matched[two], strict=True)]
            if not _belongs_to_next(word, segments[two], nexts if letters else ()):
                break
            at += 1
        held[at].append(word)
        if texts[at].startswith(letters, matched[at]):
            matched[at] += len(letters)
    return [
        replace(segment, words=tuple(own), end=max([segment.end, *(w.end for w in own)]))
        for segment, own in zip(segments, held, strict=True)
    ]


def _belongs_to_next(word: Word, segments: Sequence[Segment], nexts: Sequence[bool]) -> bool:
    """Whether `word` belongs to the second of two `segments`; `nexts` says whether it is the next word of each text."""
    middle = (word.start + word.end) / 2
    here, there = (max(s.start - middle, middle - s.end, 0.0) for s in segments)
    if abs(here - there) <= BOUNDARY_S and any(nexts):
        return not nexts[0]
    return there < here


def _respaced(segment: Segment, gap: str) -> tuple[Word, ...]:
    """Returns the segment's words with the spaces its text has before them; `gap` where the text lacks the word."""
    words: list[Word] = []
    cursor = 0
    for word in segment.words:
        found = segment.text.find(word.text, cursor, cursor + _REACH + len(word.text))
        told = found >= 0 and cursor > 0
        space = gap if not told else " " if any(map(str.isspace, segment.text[cursor:found])) else ""
        words.append(replace(word, text=space + word.text))
        if found >= 0:
            cursor = found + len(word.text)
    return tuple(words)


def _segment(given: Any, gap: str) -> Segment:
    fields = lenient_fields(given)
    text = lenient_text(fields.get("text"))
    start, end = _span(fields)
    return Segment(
        id=0,
        start=start,
        end=end,
        text=text if text[:1].isspace() else gap + text,
        seek=int(_within(fields.get("seek"))),
        tokens=tuple(t for t in lenient_items(fields.get("tokens")) if isinstance(t, int) and not isinstance(t, bool)),
        temperature=lenient_number(fields.get("temperature")) or 0.0,
        avg_logprob=lenient_number(fields.get("avg_logprob")) or 0.0,
        compression_ratio=lenient_number(fields.get("compression_ratio")) or 0.0,
        no_speech_prob=lenient_number(fields.get("no_speech_prob")) or 0.0,
    )


def _word(given: Any) -> Word:
    fields = lenient_fields(given)
    start, end = _span(fields)
    probability = lenient_number(fields.get("probability"))
    return Word(
        lenient_text(fields.get("word")), start, end, 1.0 if probability is None else min(max(probability, 0.0), 1.0)
    )


def _span(fields: Mapping[str, Any]) -> tuple[float, float]:
    start = _within(fields.get("start"))
    return start, max(start, _within(fields.get("end")))


def _within(value: Any) -> float:
    return min(max(lenient_number(value) or 0.0, 0.0), _LATEST_S)


def _letters(text: str) -> str:
    return "".join(text.split())
