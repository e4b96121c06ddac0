"""Words of others, made harmless before they stand in a document, a log or on a terminal."""

from __future__ import annotations

import re
import unicodedata

MOST_BYTES = 4096
"""Of one text, in UTF-8."""

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, moves, deletions
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links, clipboards
    r"|\x1b[ -/]*[0-~]?"
)
"""What terminals take for orders, whole."""

_UNSEEN = re.compile("[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]")
"""What turns the direction of a line, or is not seen."""

_BREAKS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What XML, subtitles and UTF-8 cannot hold, and terminals take for orders."""


def plain_text(text: str, most: int = MOST_BYTES) -> str:
    """`text` as one line without control characters, at most `most` bytes long."""
    text = text[: 4 * most]
    if not text.isprintable():
        text = _UNSEEN.sub("", _SEQUENCE.sub("", text))
        text = "".join(each if each.isprintable() else _seen(each) for each in text)
    return _cut(" ".join(text.split()), most)


def storable(text: str) -> str:
    """`text` without the characters that no document can hold; every other one is the speaker's own."""
    return text if text.isprintable() else _BREAKS.sub("", text)


def _seen(character: str) -> str:
    """Of one that is not printable: those that scripts and emoji are joined with, and spaces, stay."""
    kind = unicodedata.category(character)
    if kind in ("Zs", "Zl", "Zp") or character in "\t\n\r\v\f\x85":
        return " "
    return character if kind == "Cf" else ""


def _cut(text: str, most: int) -> str:
    if len(text) * 4 <= most:
        return text
    data = text.encode("utf-8", "replace")
    return text if len(data) <= most else data[: most - 3].decode("utf-8", "ignore") + "…"
