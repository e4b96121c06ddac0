"""Plain text in paragraphs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpu_dispatch.transcript import Transcript
from handlers.subtitles.model import Speech, TimedWord
from handlers.subtitles.text import CLOSERS, ends_clause, ends_sentence, gap, plain_line

PARAGRAPH_CHARACTERS = 600
"""A paragraph with so many characters, some hundred words, ends with its sentence. Chosen by eye."""
BREATH_MS = 2000
"""A pause after a sentence that begins a paragraph: longer than speakers rest between two sentences."""
SILENCE_MS = 4000
"""A pause that begins a paragraph wherever it falls."""
_SENTENCE_PAUSE_MS = 300
"""Without this pause after it, a short word with a full stop passes for an abbreviation."""
_ABBREVIATION = re.compile(r"[\W_]*(?:(?:\w\.)+|[^\W\d_]{1,4}\.)")


def write_txt(speech: Speech) -> str:
    """Writes each paragraph as one line, with a blank line between two; a single line end without words.

    Recognisers leave out the punctuation of languages without spaces; there a segment's end ends a line.
    """
    return "\n".join(f"{paragraph}\n" for paragraph in _paragraphs(speech)) or "\n"


def write_script(transcript: Transcript) -> str:
    """Writes the words of a script as text, with its paragraphs and lines."""
    lines = "".join(segment.text for segment in transcript.segments).split("\n")
    return "\n".join(map(plain_line, lines)).strip("\n") + "\n"


def _paragraphs(speech: Speech) -> Iterator[str]:
    said: list[str] = []
    length = 0
    last: TimedWord | None = None
    for segment in speech.segments:
        for number, word in enumerate(segment):
            space = _between(last.text, word.text) if last and number == 0 else ""
            if last and _ends_paragraph(last, word.start_ms - last.end_ms, length, line=space == "\n"):
                yield "".join(said).strip()
                said, length = [], 0
            said.append(space + word.text)
            length += len(said[-1])
            last = word
    if said:
        yield "".join(said).strip()


def _between(left: str, right: str) -> str:
    """Returns what stands between the last word of a segment and the first of the next one."""
    space = gap(left, right)
    return space or ("" if right[0].isspace() or ends_clause(left) or right[0] in CLOSERS else "\n")


def _ends_paragraph(word: TimedWord, pause_ms: int, length: int, *, line: bool) -> bool:
    """Returns whether a paragraph of `length` characters ends with `word`, before a pause of `pause_ms`."""
    if pause_ms >= SILENCE_MS:
        return True
    if not line and not ends_sentence(word.text):
        return False
    short = _ABBREVIATION.fullmatch(word.text.strip()) is not None and pause_ms < _SENTENCE_PAUSE_MS
    return pause_ms >= BREATH_MS or (length >= PARAGRAPH_CHARACTERS and not short)
