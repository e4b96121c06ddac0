"""Text of strangers, shown to a person: none of its characters acts on the terminal or on the order of reading."""

from __future__ import annotations

import re

_PICTURES = 0x2400
"""Unicode's pictures of the control characters begin here, in the characters' own order."""

_ACTING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, *, keep: str = "") -> str:
    """`text` with each control character shown: as its picture where Unicode has one, else as U+FFFD.

    Bidirectional controls and lone surrogates count, too. Those in `keep` stay as they are.
    """
    return _ACTING.sub(lambda found: found[0] if found[0] in keep else _shown(found[0]), text)


def printable_json(document: str) -> str:
    """JSON with escapes in place of those characters: it means the same to whoever reads it. Line breaks stay."""
    return _ACTING.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", document)


def _shown(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(_PICTURES + code)
    return "\u2421" if code == 0x7F else "\ufffd"
