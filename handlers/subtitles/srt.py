"""SubRip (SRT), which has no specification."""

from __future__ import annotations

import re
from collections.abc import Sequence

from handlers.subtitles.model import Cue
from handlers.subtitles.raw_cues import (
    MAX_CUE_SOURCE,
    RawCue,
    check_count,
    check_cue,
    is_malformed_timing,
    subtitles_unreadable,
    timing_of,
)
from handlers.subtitles.text import JOINER, plain_line, without_breaks

_MARKUP = re.compile(r"<(?=\s*[/a-zA-Z])|\{(?=\\|[CcFfoPSsYy]:)|-(?=->)")
"""What players take for markup: tags, styles of ASS and MicroDVD, arrows."""
_TAG = re.compile(r"</?(?:[ibus]|font|span|c|v|lang|ruby|rt)(?:[ .][^<>\n]*)?>|\{\\[^{}\n]*\}", re.IGNORECASE)


def write_srt(cues: Sequence[Cue]) -> str:
    """Writes SRT, which has no escapes: an invisible word joiner parts what players would take for markup.

    Without cues the result is a single line end, because an empty object looks like a failed write.
    """
    blocks = [f"{i}\n{_clock(c.start_ms)} --> {_clock(c.end_ms)}\n{_body(c)}\n" for i, c in enumerate(cues, start=1)]
    return "\n".join(blocks) or "\n"


def _body(cue: Cue) -> str:
    return "\n".join(_MARKUP.sub(lambda m: m[0] + JOINER, without_breaks(line.text)) for line in cue.lines)


def _clock(ms: int) -> str:
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d},{ms % 1000:03d}"


def read_srt(lines: Sequence[str]) -> list[RawCue]:
    """Reads all between two timing lines as the first one's text; tolerates missing indices, doubled blank lines."""
    timings: list[tuple[int, tuple[int, int, str]]] = []
    for i, line in enumerate(lines):
        if (timing := _timing(i, line)) is not None:
            timings.append((i, timing))
            check_count(len(timings), i + 1)
    if not timings:
        raise subtitles_unreadable("no subtitle was found in it", 1, "a line such as 00:00:01,000 --> 00:00:02,500")
    starts = [i for i, _ in timings] + [len(lines)]
    cues: list[RawCue] = []
    for number, (i, (start, end, _)) in enumerate(timings, start=1):
        body = list(lines[i + 1 : starts[number]])
        if number < len(timings):
            body = _without_index(body, number + 1)
        check_cue(sum(map(len, body)), i + 1, MAX_CUE_SOURCE)
        text = tuple(t for line in body if (t := plain_line(_TAG.sub("", line))))
        cues.append(RawCue(start, end, text, line=i + 1))
    return cues


def _timing(i: int, line: str) -> tuple[int, int, str] | None:
    timing = timing_of(line)
    if timing is None and is_malformed_timing(line):
        raise subtitles_unreadable("its timing cannot be read", i + 1, "00:00:01,000 --> 00:00:02,500")
    return timing


def _without_index(body: list[str], expected: int) -> list[str]:
    """Removes the next cue's index: a number right above its timing, or the expected one above blank lines."""
    if body and body[-1].strip().isdigit():
        return body[:-1]
    last = len(body) - 1
    while last >= 0 and not body[last].strip():
        last -= 1
    spaced = last >= 1 and not body[last - 1].strip()
    return body[:last] if spaced and body[last].strip() == str(expected) else body
