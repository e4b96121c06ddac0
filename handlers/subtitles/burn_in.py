"""Captions drawn into a picture of any size: plain, fill, pop and box."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from handlers.subtitles.ass import Event, Style, centiseconds, document, escape, escaped_words, karaoke, marked
from handlers.subtitles.cues import CueLimits, fit_words, pack, wrap
from handlers.subtitles.model import Cue
from handlers.subtitles.raw_cues import subtitles_unreadable
from handlers.subtitles.text import cells, right_to_left
from manifests.options import CaptionStyle, StyleName

_GOLD = "&H0000D7FF"
_BOX = "&H003C14DC"
_AUTHORED_LINES = 3
"""Lines of an authored cue that are kept, when each one fits."""
_EVENT_OVERHEAD = 50
"""Characters around the text of an event."""


@dataclass(frozen=True, slots=True)
class CaptionGeometry:
    """Sizes for one picture, in its pixels, and what a cue may hold."""

    width: int
    height: int
    size: int
    """Height of the text."""
    outline: int
    shadow: int
    side: int
    vertical: int
    room: CueLimits


def geometry(width: int, height: int, style: CaptionStyle) -> CaptionGeometry:
    """Derives landscape sizes from the height (72 of 1080), portrait ones from the width (96 of 1080): they read alike.

    A cell is half of the text's height wide: the mean of bold Latin letters. An upright picture has three to five words
    in the middle third; a word that pops needs room to grow.
    """
    if height * 4 >= width * 5:
        unit, size, outline, side, vertical, words = width / 1080, 96, 6, width * 90 / 1080, height * 580 / 1920, 5
    else:
        unit, size, outline, side, vertical, words = height / 1080, 72, 4, width / 10, height * 86 / 1080, None
    size = max(8, round(size * unit))
    columns = int((width - 2 * side) / (size / 2) * (0.9 if style.style == "pop" else 1) + 1e-6)
    return CaptionGeometry(
        width=width,
        height=height,
        size=size,
        outline=max(1, round(outline * unit)),
        shadow=max(1, round(2 * unit)),
        side=round(side),
        vertical=round(vertical),
        room=CueLimits(cells=max(4, columns), words=None if style.style == "plain" else words),
    )


def write_ass(
    cues: Sequence[Cue], style: CaptionStyle, width: int, height: int, *, max_characters: int | None = None
) -> str:
    """Writes an ASS document that shows `cues` in `style` on a picture of `width` x `height` pixels.

    Every cue's lines carry their words, as `make_cues` and `parse_subtitles` give them. Raises SubtitlesUnreadable when
    the captions have more than `max_characters` characters: a word that pops repeats its whole cue.
    """
    sizes = geometry(width, height, style)
    styles, draw = _STYLES[style.style]
    events: list[Event] = []
    clock = size = 0
    for cue in (part for whole in cues for part in refit(whole, sizes.room)):
        start = max(centiseconds(cue.start_ms), clock)
        clock = max(centiseconds(cue.end_ms), start + 1)
        drawn = list(draw(cue, start, clock))
        events += drawn
        size += sum(len(event.text) + _EVENT_OVERHEAD for event in drawn)
        if max_characters is not None and size > max_characters:
            raise subtitles_unreadable(
                f"in the style {style.style} they make captions of more than {max_characters} characters", 1, "fewer"
            )
    rtl = any(right_to_left(cue.text) for cue in cues)
    return document(width, height, [_sized(s, sizes) for s in styles], events, rtl=rtl)


def refit(cue: Cue, room: CueLimits) -> tuple[Cue, ...]:
    """Returns `cue` as its author broke it where that fits into `room`, else split into consecutive cues."""
    fits = all(cells(line.text) <= room.cells for line in cue.lines)
    few = room.words is None or len(cue.words) <= room.words
    if fits and few and len(cue.lines) <= max(room.lines, _AUTHORED_LINES):
        return (cue,)
    groups = pack(fit_words(cue.words, room.cells * 6 // 5), room)
    starts = [cue.start_ms, *(max(cue.start_ms, group[0].start_ms) for group in groups[1:]), cue.end_ms]
    return tuple(
        Cue(start, max(start, end), wrap(group, room) or ())
        for group, (start, end) in zip(groups, pairwise(starts), strict=True)
    )


def _sized(style: Style, sizes: CaptionGeometry) -> Style:
    return replace(
        style,
        size=sizes.size,
        outline=sizes.outline * (3 if style.border == 3 else 1),
        shadow=0 if style.border == 3 else sizes.shadow,
        margin_side=sizes.side,
        margin_vertical=sizes.vertical,
    )


def _plain(cue: Cue, start: int, end: int) -> Iterator[Event]:
    yield Event(start, end, "Plain", escape(cue.text))


def _fill(cue: Cue, start: int, end: int) -> Iterator[Event]:
    yield Event(start, end, "Fill", karaoke(cue, start, end))


def _pop(cue: Cue, start: int, end: int) -> Iterator[Event]:
    grow = f"{{\\c{_GOLD}\\fscx112\\fscy112\\t(0,120,\\fscx104\\fscy104)}}"
    words = escaped_words(cue.lines)
    for i, begin, until in _word_intervals(cue, start, end):
        yield Event(begin, until, "Pop", marked(words, i, grow, "{\\r}"))


def _box(cue: Cue, start: int, end: int) -> Iterator[Event]:
    """Draws the box as the border of the active word on a layer below, where every other word is transparent."""
    words = escaped_words(cue.lines)
    for i, begin, until in _word_intervals(cue, start, end):
        text = "{\\alpha&HFF&}" + marked(words, i, "{\\alpha&H00&}", "{\\alpha&HFF&}")
        yield Event(begin, until, "Box", text)
    yield Event(start, end, "Plain", escape(cue.text), layer=1)


def _word_intervals(cue: Cue, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields number, start and end of each word's turn; the turns fill the cue's time without gap or overlap."""
    begins = [start]
    for word in cue.words[1:]:
        begins.append(min(max(centiseconds(word.start_ms), begins[-1]), end))
    for i, (begin, until) in enumerate(pairwise([*begins, end])):
        if until > begin:
            yield i, begin, until


_Draw = Callable[[Cue, int, int], Iterator[Event]]
_TEXT = Style("Plain", 72)
_STYLES: dict[StyleName, tuple[tuple[Style, ...], _Draw]] = {
    "plain": ((_TEXT,), _plain),
    "fill": ((Style("Fill", 72, primary=_GOLD),), _fill),
    "pop": ((Style("Pop", 72),), _pop),
    "box": ((Style("Box", 72, outline_colour=_BOX, back=_BOX, border=3), _TEXT), _box),
}
