"""LRC lyrics, enhanced by the times of the words inside a line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest

from handlers.subtitles.ass import centiseconds
from handlers.subtitles.model import Cue
from handlers.subtitles.text import JOINER, joined

_STAMP_LIKE = re.compile(r"[\[<](?=\s*\d)")
_SILENCE_CS = 100
"""A pause that gets an empty line; in a shorter one the display would only flicker."""


def write_lrc(cues: Sequence[Cue], *, duration_ms: int, timed: bool = True) -> str:
    """Writes a line for each cue, and an empty one before a pause and at the end, because LRC has no end times."""
    total = centiseconds(duration_ms)
    lines = [f"[length:{_clock(total)}]"]
    for cue, following in zip_longest(cues, cues[1:]):
        start, end = centiseconds(cue.start_ms), centiseconds(cue.end_ms)
        text = _enhanced(cue, start, end) if timed and cue.words else _plain(cue)
        lines.append(f"[{_clock(start)}]{text}")
        if following is None or centiseconds(following.start_ms) - end >= _SILENCE_CS:
            lines.append(f"[{_clock(end)}]")
    return "\n".join(lines) + "\n"


def _enhanced(cue: Cue, start: int, end: int) -> str:
    clock = start
    parts: list[str] = []
    for word in cue.words:
        clock = min(max(centiseconds(word.start_ms), clock), end)
        space = " " if parts and word.text.startswith(" ") else ""
        parts.append(f"{space}<{_clock(clock)}>{_safe(word.text.strip())}")
    last = min(max(centiseconds(cue.words[-1].end_ms), clock), end)
    return f"{''.join(parts)}<{_clock(last)}>"


def _plain(cue: Cue) -> str:
    """Returns the cue's text; players read a bracket right after the stamp as another one and drop it."""
    text = "".join(word.text for word in cue.words).strip() or joined(line.text for line in cue.lines)
    return (JOINER if text.startswith("[") else "") + _safe(text)


def _safe(text: str) -> str:
    return _STAMP_LIKE.sub(lambda m: m[0] + JOINER, text)


def _clock(cs: int) -> str:
    """Formats whole centiseconds, so that 59.999 s is 01:00.00 and never 00:60.00; minutes may pass 99."""
    return f"{cs // 6000:02d}:{cs // 100 % 60:02d}.{cs % 100:02d}"
