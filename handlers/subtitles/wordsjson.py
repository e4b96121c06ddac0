"""words.json: a transcript as data.

{"language", "source_language", "language_probability", "duration", "text", "words": [{"word", "start", "end",
"probability"}], "segments": [{"id", "start", "end", "text", …}]}; times in seconds. `language` is the text's, which is
"en" for a translation, and `source_language` that of the sound. A word has no spaces, as readers of earlier versions
expect; the segments' texts show where they belong. `words` is empty where the words were not timed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

from gpu_dispatch.transcript import Segment, Transcript, Word
from handlers.subtitles.model import Speech, TimedWord
from handlers.subtitles.raw_cues import check_cue, check_marks, check_words, subtitles_unreadable
from handlers.subtitles.text import joined, needs_space, plain_line, tokens
from handlers.subtitles.words import milliseconds

MAX_ENTRIES = 200_000
"""More than a day of speech."""
_MAX_VALUES = 3_000_000
_MAX_SEGMENT = 200_000
"""Characters of one segment: enough for hours of undivided speech."""
_WORDS = '{"words": [{"word": "Hello", "start": 0.0, "end": 0.5}]}'


def write_words_json(transcript: Transcript, speech: Speech, *, language: str) -> str:
    """Writes words.json; `speech` is `speech_of(transcript)`, which has the clean times; `language` is the text's.

    It is written entry by entry: as one tree, a document of ten hours takes a quarter of a gigabyte.
    """
    head = {
        "language": plain_line(language),
        "source_language": plain_line(transcript.language),
        "language_probability": language_probability(transcript),
        "duration": speech.duration_ms / 1000,
        "text": text_of(transcript),
    }
    words = (_word(w) for segment in (speech.segments if speech.timed else ()) for w in segment)
    parts = [_dumped(head)[:-2], ',\n "words": ', *_listed(words)]
    parts += [',\n "segments": ', *_listed(_segments(transcript.segments)), "\n}\n"]
    return "".join(parts)


def text_of(transcript: Transcript) -> str:
    """Returns what was said as one line."""
    return plain_line(joined(_said(segment) for segment in transcript.segments))


def probability(value: float) -> float | None:
    """Rounds a probability to what an engine can mean by it; None where it is no number."""
    return round(min(max(value, 0.0), 1.0), 4) if math.isfinite(value) else None


def language_probability(transcript: Transcript) -> float | None:
    """Returns how sure the recogniser is of the language; None where it did not say, as workers of others."""
    return probability(transcript.language_probability) or None


def _listed(entries: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yields `entries` as a JSON list one level down, in pieces."""
    opening = "[\n  "
    for entry in entries:
        yield opening + _dumped(entry).replace("\n", "\n  ")
        opening = ",\n  "
    yield "[]" if opening.startswith("[") else "\n ]"


def _dumped(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False, allow_nan=False, indent=1)


def _word(word: TimedWord) -> dict[str, Any]:
    start, end = word.start_ms / 1000, word.end_ms / 1000
    return {"word": word.text.strip(), "start": start, "end": end, "probability": probability(word.probability)}


def _segments(segments: Iterable[Segment]) -> Iterator[dict[str, Any]]:
    """Yields the segments in which something is said, numbered from 0."""
    texts = ((segment, plain_line(_said(segment))) for segment in segments)
    for number, (segment, text) in enumerate((s, text) for s, text in texts if text):
        yield _segment(number, segment, text)


def _said(segment: Segment) -> str:
    return segment.text if plain_line(segment.text) else "".join(word.text for word in segment.words)


def _segment(number: int, segment: Segment, text: str) -> dict[str, Any]:
    start = (milliseconds(segment.start) or 0) / 1000
    return {
        "id": number,
        "start": start,
        "end": max(start, (milliseconds(segment.end) or 0) / 1000),
        "text": text,
        "temperature": _finite(segment.temperature),
        "avg_logprob": _finite(segment.avg_logprob),
        "compression_ratio": _finite(segment.compression_ratio),
        "no_speech_prob": _finite(segment.no_speech_prob),
        **({"language": plain_line(segment.language)} if segment.language else {}),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def read_words_json(text: str) -> Transcript:
    """Reads words.json and earlier shapes: a bare list of words, `word_timestamps` as `words`, words in segments."""
    for mark in "{[,":
        check_marks(text, mark, _MAX_VALUES, "values")
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise subtitles_unreadable("it is not valid JSON", line, _WORDS) from error
    top = cast(dict[str, Any], data) if isinstance(data, dict) else {"words": data}
    segments = _read_segments(top.get("segments"))
    words = _read_words(top.get("words") or top.get("word_timestamps"))
    if words:
        segments = _assign_words(words, segments) or [_single_segment(words)]
    if not any(plain_line(segment.text) or segment.words for segment in segments):
        raise subtitles_unreadable("it holds no words", 1, _WORDS)
    language = top.get("language") or top.get("detected_language")
    return Transcript(
        language=language if isinstance(language, str) else "",
        language_probability=1.0,
        duration=_number(top.get("duration")),
        segments=tuple(segments),
        model="",
        engine="",
        device="",
    )


def _assign_words(words: Sequence[Word], segments: Sequence[Segment]) -> list[Segment]:
    """Deals the words, with their spaces, to the segments whose texts they make up; [] when they do not agree."""
    dealt: list[Segment] = []
    i = 0
    for segment in segments:
        text, at = plain_line(segment.text), 0
        mine: list[Word] = []
        while i < len(words) and at < len(text):
            begin = at
            while begin < len(text) and text[begin].isspace():
                begin += 1
            if not text.startswith(words[i].text, begin):
                return []
            mine.append(replace(words[i], text=(" " if begin > at or at == 0 else "") + words[i].text))
            at = begin + len(words[i].text)
            i += 1
        if at < len(text):
            return []
        dealt.append(replace(segment, words=tuple(mine)))
    return dealt if i == len(words) else []


def _single_segment(words: Sequence[Word]) -> Segment:
    spaced = [words[0]]
    for left, right in pairwise(words):
        spaced.append(replace(right, text=" " + right.text) if needs_space(left.text, right.text) else right)
    return Segment(0, words[0].start, words[-1].end, "".join(w.text for w in spaced), tuple(spaced))


def _read_segments(data: Any) -> list[Segment]:
    segments: list[Segment] = []
    words = 0
    for number, entry in enumerate(_objects(data)):
        segments.append(_read_segment(number, entry))
        words += len(segments[-1].words) or len(tokens(segments[-1].text))
        check_words(words, 1)
    return segments


def _read_segment(number: int, entry: dict[str, Any]) -> Segment:
    words = _read_words(entry.get("words"))
    text = entry.get("text")
    text = text if isinstance(text, str) else ""
    if len(text) > _MAX_SEGMENT:
        raise subtitles_unreadable(f"a segment has more than {_MAX_SEGMENT} characters", 1, "shorter ones")
    segment = Segment(number, _number(entry.get("start")), _number(entry.get("end")), text)
    if not words:
        return segment
    return (_assign_words(words, [segment]) or [replace(segment, words=_single_segment(words).words)])[0]


def _read_words(data: Any) -> list[Word]:
    words: list[Word] = []
    for entry in _objects(data):
        text = entry.get("word", entry.get("text"))
        bare = plain_line(text) if isinstance(text, str) else ""
        check_cue(len(bare), 1)
        if bare:
            words.append(Word(bare, _number(entry.get("start")), _number(entry.get("end"))))
    return words


def _objects(data: Any) -> list[dict[str, Any]]:
    entries = cast(list[Any], data) if isinstance(data, list) else []
    if len(entries) > MAX_ENTRIES:
        raise subtitles_unreadable(f"it has more than {MAX_ENTRIES} entries", 1, "fewer")
    return [cast(dict[str, Any], entry) for entry in entries if isinstance(entry, dict)]


def _number(value: Any) -> float:
    """Returns `value` as seconds; NaN when it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf
