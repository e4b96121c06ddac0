"""Text of others, made harmless for documents, logs and terminals, and the name somebody probably meant."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The valid name most like `name`, or None when none is like it."""
    folded = {n.lower(): n for n in names}
    found = difflib.get_close_matches(name[:64].lower(), folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A remark in brackets that follows the misspelt name, or ""."""
    found = nearest(name, names)
    return f" (did you mean '{found}'?)" if found else ""


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


_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{0,20}:(?:\\?/){2}(?:[^\s'\"<>]|['<>](?=[\w%&=+/?;-]))+", re.IGNORECASE)
"""In any text; JSON may write a slash as "\\/". Quotes and angles end an address, unless it goes on behind them."""
_START = re.compile(r"([a-z][a-z0-9+.-]{0,20}:(?:\\?/){2})([^/?#\\]*)([^?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_OBJECTS = ("s3", "file")
"""Schemes whose addresses have no query: "?" and "#" are characters of a key."""
MOST = 200


def without_secrets_in(url: str) -> str:
    """`url` fit for messages and logs, at most about 200 characters of it."""
    text = _shown_cut(url, "")
    return text if len(text) <= MOST else text[:MOST] + "…"


def without_queries(text: str) -> str:
    """`text` in which every address has lost its user, password, query and fragment; "…" stands where something was."""
    return _ADDRESS.sub(lambda found: _shown_cut(found[0], "…"), text) if ":" in text else text


def _shown_cut(url: str, instead: str) -> str:
    if url[:5].lower() == "data:":
        return "data:…"
    parts = _START.fullmatch(url)
    if parts is None or parts[1].partition(":")[0].lower() in _OBJECTS:
        return url
    user, at, host = parts[2].rpartition("@")
    # A password with "/", "?" or "#" in it is none that clients agree on: what follows the last "@" is shown at most.
    password = ":" in host and not re.fullmatch(r"(\[[^\]]*\]|[^:]*):[0-9]*", host)
    if password and "@" in parts[3] + parts[4]:
        return parts[1] + "…"
    return parts[1] + (instead if user or at else "") + host + parts[3] + (instead if parts[4] else "")
