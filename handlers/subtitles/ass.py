"""Advanced SubStation Alpha, written: escaping, times, karaoke and the document around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from handlers.subtitles.model import Cue, CueLine
from handlers.subtitles.text import JOINER

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
    """A Dialogue line. `text` is ASS already: escaped, with its overrides. Times are centiseconds."""

    start_cs: int
    end_cs: int
    style: str
    text: str
    layer: int = 0


def escape(text: str) -> str:
    """`text` shown as it is. A backslash cannot be escaped: a word joiner after it, unseen, keeps it from working."""
    return text.translate(_ESCAPES)


def document(width: int, height: int, styles: Sequence[Style], events: Sequence[Event], *, rtl: bool) -> str:
    """With `rtl`, the base direction is found line by line: libass otherwise puts karaoke words in reverse."""
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
    """Rounded, a half upwards: never backwards in time, as rounding to even would be for lengths."""
    return (ms + 5) // 10


def karaoke(cue: Cue, start_cs: int, end_cs: int) -> str:
    r"""The cue's text with a `\kf` a word and a `\k` a pause, which add up to exactly `end_cs` - `start_cs`.

    Lengths are differences of rounded times, so that no rounding adds up along the line.
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
    """Every word of `lines` as (what stands before it, its text), escaped: `marked` makes texts of them."""
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
    """All of `words`, the one of number `active` between the overrides `before` and `after`."""
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
