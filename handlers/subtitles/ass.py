"""Advanced SubStation Alpha (ASS) and SSA: writer and reader."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from handlers.subtitles.model import Cue, CueLine, TimedWord
from handlers.subtitles.raw_cues import (
    MAX_CUE_SOURCE,
    MAX_EVENTS,
    RawCue,
    check_count,
    check_cue,
    check_words,
    clock_ms,
    subtitles_unreadable,
    timed_words,
)
from handlers.subtitles.text import JOINER, plain_line

_ESCAPES = str.maketrans({"\\": "\\" + JOINER, "{": "\\{", "}": "\\}", "\n": "\\N"})


@dataclass(frozen=True, slots=True)
class Style:
    """A V4+ style; lengths in pixels of the script's resolution, colours &HAABBGGRR."""

    name: str
    size: int
    primary: str = "&H00FFFFFF"
    secondary: str = "&H00FFFFFF"
    outline_colour: str = "&H00000000"
    back: str = "&H80000000"
    border: int = 1
    outline: int = 4
    shadow: int = 2
    margin_side: int = 192
    margin_vertical: int = 86
    font: str = "Open Sans"


@dataclass(frozen=True, slots=True)
class Event:
    """A Dialogue line."""

    start_cs: int
    end_cs: int
    style: str
    text: str
    """ASS already: escaped, with its overrides."""
    layer: int = 0


def escape(text: str) -> str:
    """Escapes `text`. A backslash has no escape, so an invisible word joiner after it disables it."""
    return text.translate(_ESCAPES)


def document(width: int, height: int, styles: Sequence[Style], events: Sequence[Event], *, rtl: bool) -> str:
    """Writes a script. With `rtl`, libass finds the base direction by line; it otherwise reverses karaoke words."""
    encoding = -1 if rtl else 1
    return "\n".join(
        [
            "[Script Info]",
            "ScriptType: v4.00+",
            f"PlayResX: {width}",
            f"PlayResY: {height}",
            "WrapStyle: 0",
            "ScaledBorderAndShadow: yes",
            "YCbCr Matrix: TV.709",
            "",
            "[V4+ Styles]",
            "Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic,"
            " Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL,"
            " MarginR, MarginV, Encoding",
            *(_style_line(style, encoding) for style in styles),
            "",
            "[Events]",
            "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text",
            *(
                f"Dialogue: {e.layer},{_clock(e.start_cs)},{_clock(e.end_cs)},{e.style},,0,0,0,,{e.text}"
                for e in events
            ),
            "",
        ]
    )


def centiseconds(ms: int) -> int:
    """Rounds milliseconds, a half upwards; rounding to even would make lengths uneven."""
    return (ms + 5) // 10


def karaoke(cue: Cue, start_cs: int, end_cs: int) -> str:
    r"""Returns the cue's text, with a `\kf` a word and a `\k` a pause, which add up to exactly `end_cs` - `start_cs`.

    Lengths are differences of rounded times, so that rounding errors do not add up along the line.
    """
    clock = start_cs
    lines: list[str] = []
    for line in cue.lines:
        parts: list[str] = []
        for word in line.words:
            begin = min(max(centiseconds(word.start_ms), clock), end_cs)
            end = min(max(centiseconds(word.end_ms), begin), end_cs)
            pause = f"{{\\k{begin - clock}}}" if begin > clock else ""
            text = escape(word.text if parts else word.text.lstrip())
            parts.append(f"{pause}{{\\kf{end - begin}}}{text}")
            clock = end
        lines.append("".join(parts) or escape(line.text))
    rest = f"{{\\k{end_cs - clock}}}" if end_cs > clock else ""
    return "\\N".join(lines) + rest


def escaped_words(lines: Sequence[CueLine]) -> list[tuple[str, str]]:
    """Returns every word of `lines` as (what stands before it, its text), escaped, for `marked`."""
    words: list[tuple[str, str]] = []
    for number, line in enumerate(lines):
        begun = False
        for i, word in enumerate(line.words):
            bare = word.text if begun else word.text.lstrip()
            space = " " if bare.startswith(" ") else ""
            shown = escape(bare.removeprefix(" "))
            words.append(("\\N" * (number > 0 and i == 0) + space, shown))
            begun = begun or bool(space + shown)
    return words


def marked(words: Sequence[tuple[str, str]], active: int, before: str, after: str) -> str:
    """Joins `words`, with number `active` between the overrides `before` and `after`."""
    return "".join(
        f"{space}{before}{shown}{after}" if i == active else space + shown for i, (space, shown) in enumerate(words)
    )


def _style_line(style: Style, encoding: int) -> str:
    return (
        f"Style: {style.name},{style.font},{style.size},{style.primary},{style.secondary},{style.outline_colour},"
        f"{style.back},-1,0,0,0,100,100,0,0,{style.border},{style.outline},{style.shadow},2,{style.margin_side},"
        f"{style.margin_side},{style.margin_vertical},{encoding}"
    )


def _clock(cs: int) -> str:
    return f"{cs // 360_000}:{cs // 6000 % 60:02d}:{cs // 100 % 60:02d}.{cs % 100:02d}"


_CLOCK = re.compile(r"\s*(\d{1,4}):(\d{1,2}):(\d{1,2})(?:[.,:](\d{1,3}))?\s*", re.ASCII)
_PIECE = re.compile(r"\\([Nnh{}])|\{([^{}]*)\}|([^\\{]+|.)", re.DOTALL)
_KARAOKE = re.compile(r"\\[kK][fo]?(\d{1,7})", re.ASCII)
_DRAWING = re.compile(r"\\p(\d)", re.ASCII)
_BREAK = re.compile(r"\\[Nn]")
_MAX_FIELDS = 50
_FIELDS = ("layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text")


@dataclass(frozen=True, slots=True)
class _Columns:
    """The positions of an event's start, end and text among its values; -1 for a missing one."""

    count: int
    start: int
    end: int
    text: int


@dataclass(slots=True)
class _AssReader:
    """Collects an event's text: timed parts line by line, and the current syllable."""

    line: int
    start: int
    rows: list[list[tuple[str, int, int]]] = field(default_factory=lambda: [[]])
    length: int = 0
    characters: int = 0
    karaoke: bool = False
    drawing: bool = False

    def override(self, block: str) -> None:
        if "\\" not in block:
            return
        if (drawing := _DRAWING.search(block)) is not None:
            self.drawing = drawing[1] != "0"
        for syllable in _KARAOKE.finditer(block):
            self.karaoke = True
            self.start += self.length
            self.length = int(syllable[1]) * 10

    def add_text(self, text: str) -> None:
        if not self.drawing:
            self.characters += len(text)
            check_cue(self.characters, self.line, MAX_CUE_SOURCE)
            self.rows[-1].append((text, self.start, self.start + self.length))

    def break_line(self) -> None:
        check_cue(len(self.rows), self.line)
        self.rows.append([])


def read_ass(lines: Sequence[str]) -> list[RawCue]:
    cues: list[RawCue] = []
    columns = _columns(_FIELDS)
    words = 0
    for number, line in enumerate(lines, start=1):
        kind, _, rest = line.strip().partition(":")
        kind = kind.lower()
        if kind == "dialogue":
            cues.append(_event(rest, columns, number))
            check_count(len(cues), number, MAX_EVENTS)
            words += sum(map(len, cues[-1].words))
            check_words(words, number)
        elif kind == "format" and "text" in rest.lower():
            columns = _columns([name.strip().lower() for name in rest.split(",", _MAX_FIELDS)])
    if not cues:
        raise subtitles_unreadable("no event was found in it", 1, "a line that starts with 'Dialogue:'")
    return cues


def _columns(names: Sequence[str]) -> _Columns:
    places = {name: i for i, name in enumerate(names)}
    return _Columns(len(names), *(places.get(name, -1) for name in ("start", "end", "text")))


def _event(rest: str, columns: _Columns, number: int) -> RawCue:
    values = rest.split(",", columns.count - 1)

    def value(column: int) -> str:
        return values[column] if 0 <= column < len(values) else ""

    start, end = _CLOCK.fullmatch(value(columns.start)), _CLOCK.fullmatch(value(columns.end))
    if start is None or end is None:
        raise subtitles_unreadable("an event's times cannot be read", number, "Dialogue: 0,0:00:01.00,0:00:02.50,…")
    begin, until = clock_ms(*start.groups()), clock_ms(*end.groups())
    said = value(columns.text)
    if "{" not in said:
        return RawCue(begin, until, _unmarked(said, number), line=number)
    reading = _read(said, begin, number)
    text = tuple(t for row in reading.rows if (t := plain_line("".join(part for part, _, _ in row))))
    check_cue(sum(map(len, text)), number)
    words: tuple[tuple[TimedWord, ...], ...] = ()
    if reading.karaoke:
        words = tuple(w for row in reading.rows if (w := timed_words(_joined(row))))
    return RawCue(begin, until, text, words=words, line=number)


def _unmarked(said: str, number: int) -> tuple[str, ...]:
    """Returns the lines of a text without overrides, quickly, because most texts have none."""
    check_cue(len(said), number, MAX_CUE_SOURCE)
    rows = _BREAK.split(said) if "\\" in said else (said,)
    check_cue(len(rows), number)
    return tuple(t for row in rows if (t := plain_line(row.replace("\\h", " ").replace("\\}", "}"))))


def _read(text: str, start: int, line: int) -> _AssReader:
    reading = _AssReader(line, start)
    for piece in _PIECE.finditer(text):
        sign, block, said = piece.groups()
        if block is not None:
            reading.override(block)
        elif sign in ("N", "n"):
            reading.break_line()
        else:
            reading.add_text(" " if sign == "h" else sign or said or "")
    return reading


def _joined(row: Sequence[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Joins the parts of a syllable that overrides or escapes divided."""
    parts: list[tuple[list[str], int, int]] = []
    for text, start, end in row:
        if parts and parts[-1][1:] == (start, end):
            parts[-1][0].append(text)
        else:
            parts.append(([text], start, end))
    return [("".join(texts), start, end) for texts, start, end in parts]
