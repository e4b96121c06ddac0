"""Text in subtitles: how wide it is, where it may be divided, what must not stay in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

JOINER = "\u2060"
"""Word joiner: invisible. Put between characters that a format would otherwise take for markup."""

_GAPS = re.compile(r"\s\s+|[^\S\xa0\u202f]")
"""Blanks to fold into one space: all but a lone no-break space inside a word."""

_UNWANTED = re.compile(f"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff{JOINER}]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INVISIBLE = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf", "Cs"})

_IDEOGRAPHS = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_WIDE_SIGNS = "\u3000-\u303f\uff01-\uff65\uffe0-\uffee"
_SPACELESS = re.compile(f"[{_IDEOGRAPHS}{_WIDE_SIGNS}\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_OPENERS = "「『（［｛〈《【〔“‘(["
CLOSERS = "」』）］｝〉》】〕”’)]、。，．！？：；…‥ー・々!?.,:;"
_TOKEN = re.compile(
    f"[{re.escape(_OPENERS)}]*[{_IDEOGRAPHS}][\u3099\u309a\ufe00-\ufe0f]*[{re.escape(CLOSERS)}]*|[^{_IDEOGRAPHS}]+"
)
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_ASS_BREAK = re.compile(r"\\(?=[Nnh])")
_SIGN = re.compile("[^\u200d](?:\u200d+[^\u200d]?)*|\u200d+", re.DOTALL)
"""A character, with those that a joiner ties to it."""
_SENTENCE_END = re.compile(r"[.?!…。！？؟।][\"'”’»)\]」』）]*$")
_PAUSE_END = re.compile(r"[.?!…。！？؟।,;:、，；：،][\"'”’»)\]」』）]*$")


def plain_line(text: str) -> str:
    """Returns `text` on one line: blanks folded, ends stripped, no control characters, lone surrogates as U+FFFD."""
    if is_simple(text):
        return text.strip()
    text = _GAPS.sub(" ", _UNWANTED.sub("", text))
    return _SURROGATE.sub("\ufffd", text).strip() if visible(text) else ""


def is_simple(text: str) -> bool:
    """Returns whether `text` is printable ASCII with single blanks, which needs no cleaning; most text is."""
    return text.isascii() and text.isprintable() and "  " not in text


def visible(text: str) -> bool:
    """Returns whether a reader sees any of `text`."""
    return any(unicodedata.category(c) not in _INVISIBLE for c in text)


def cells(text: str) -> int:
    """Returns the width on a grid: a Latin letter takes one cell, an East Asian wide one two, a combining mark none."""
    if text.isascii():
        return len(text)
    return sum(_cell(c) for c in text)


def _cell(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def tokens(text: str) -> tuple[str, ...]:
    """Splits `text` into words with their leading space; ideographs and kana singly, punctuation with its neighbour.

    Joined, the tokens give `plain_line(text)`.
    """
    found: list[str] = []
    unseen = ""
    bare = plain_line(text)
    if is_simple(bare):
        first, *rest = bare.split(" ")
        return (first, *(" " + part for part in rest)) if bare else ()
    for i, part in enumerate(bare.split(" ")):
        pieces: list[str] = _TOKEN.findall(part)
        for j, piece in enumerate(pieces):
            spaced = unseen + (" " if i and not j else "") + piece
            if visible(piece):
                found.append(spaced)
                unseen = ""
            else:
                unseen = spaced
    if found:
        found[-1] += unseen
    return tuple(found)


def is_spaceless(text: str) -> bool:
    """Returns whether any of `text` is in a script that writes no spaces between words."""
    return not text.isascii() and _SPACELESS.search(text) is not None


def needs_space(left: str, right: str) -> bool:
    """Returns whether two words whose spaces were lost need one: always, but between scripts without spaces."""
    return not (_SPACELESS.match(left[-1:]) and _SPACELESS.match(right[:1]))


def without_breaks(text: str) -> str:
    """Disables what ffmpeg and players that use it read as ASS's breaks and blanks in other formats, too."""
    return _ASS_BREAK.sub(lambda m: m[0] + JOINER, text) if "\\" in text else text


def gap(left: str, right: str) -> str:
    """Returns the space that is missing between two texts that follow one another, such as segments; "" for none."""
    if not left or not right or left[-1].isspace() or right[0].isspace() or right[0] in CLOSERS:
        return ""
    return " " if needs_space(left, right) else ""


def joined(texts: Iterable[str]) -> str:
    """Joins texts that follow one another into one line."""
    parts = [""]
    for text in texts:
        if text:
            parts += (gap(parts[-1], text), text)
    return "".join(parts).strip()


def ends_sentence(text: str) -> bool:
    return _SENTENCE_END.search(text) is not None


def ends_clause(text: str) -> bool:
    """Returns whether `text` ends with punctuation at which a reader pauses."""
    return _PAUSE_END.search(text) is not None


def language_tag(language: str) -> str:
    """Returns a recogniser's language where it is a BCP 47 tag, else "und"."""
    return language if _LANGUAGE.fullmatch(language) else "und"


def leads_right_to_left(text: str) -> bool:
    """Returns whether the first letter with a direction of its own is written from right to left."""
    if text.isascii():
        return False
    kinds = (unicodedata.bidirectional(c) for c in text)
    return next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L"


def right_to_left(text: str) -> bool:
    """Returns whether any of `text` is written from right to left."""
    return not text.isascii() and any(unicodedata.bidirectional(c) in ("R", "AL") for c in text)


def divide(text: str, width: int) -> tuple[str, ...]:
    """Divides `text` into pieces of at most `width` cells that join to `text`; marks stay with their letters."""
    if cells(text) <= width:
        return (text,)
    if text.isascii():
        return tuple(text[i : i + width] for i in range(0, len(text), width))
    pieces = [""]
    used = 0
    for sign in _SIGN.findall(text):
        size = cells(sign)
        if pieces[-1] and size and used + size > width:
            pieces.append("")
            used = 0
        pieces[-1] += sign
        used += size
    return tuple(pieces)
