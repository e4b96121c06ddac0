"""Untrusted text made safe for documents, logs and terminals, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Returns the valid name most like `name`; None when none is similar."""
    folded = {n.lower(): n for n in names}
    found = difflib.get_close_matches(name[:64].lower(), folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns a remark in brackets to follow a misspelt name, or "" without a suggestion."""
    found = nearest(name, names)
    return f" (did you mean '{found}'?)" if found else ""


MAX_BYTES = 4096
"""Longest text, in bytes of UTF-8."""

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, moves, deletions
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links, clipboards
    r"|\x1b[ -/]*[0-~]?"
)
"""Whole escape sequences of terminals."""

_UNSEEN = re.compile("[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]")
"""Characters that turn a line's direction, or are invisible."""

_BREAKS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML, subtitles or UTF-8 cannot hold, or that control terminals."""


def plain_text(text: str, most: int = MAX_BYTES) -> str:
    """Returns `text` as one line without control characters, at most `most` bytes long."""
    text = text[: 4 * most]
    if not text.isprintable():
        text = _UNSEEN.sub("", _SEQUENCE.sub("", text))
        text = "".join(each if each.isprintable() else _visible(each) for each in text)
    return _cut(" ".join(text.split()), most)


def storable(text: str) -> str:
    """Returns `text` without the characters that no document can hold; all others stay."""
    return text if text.isprintable() else _BREAKS.sub("", text)


def _visible(character: str) -> str:
    """Returns what stays of a non-printable character: spaces, and the joiners of scripts and emoji."""
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
"""The first of Unicode's pictures of control characters, which are in the characters' own order."""

_ACTING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, *, keep: str = "") -> str:
    """Shows each control character in `text`: as its picture where Unicode has one, else as U+FFFD.

    Bidirectional controls and lone surrogates count, too. Those in `keep` stay.
    """
    return _ACTING.sub(lambda found: found[0] if found[0] in keep else _picture(found[0]), text)


def printable_json(document: str) -> str:
    """Escapes those characters in JSON, which keeps its meaning; line breaks stay."""
    return _ACTING.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", document)


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(_PICTURES + code)
    return "\u2421" if code == 0x7F else "\ufffd"


_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{0,20}:(?:\\?/){2}(?:[^\s'\"<>]|['<>](?=[\w%&=+/?;-]))+", re.IGNORECASE)
r"""An address in any text. JSON may write a slash as "\/". Quotes and angles end it, unless it goes on after them."""
_START = re.compile(r"([a-z][a-z0-9+.-]{0,20}:(?:\\?/){2})([^/?#\\]*)([^?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_OBJECTS = ("s3", "file")
"""Schemes whose addresses have no query: "?" and "#" are characters of a key."""
MAX_URL = 200


def without_secrets_in(url: str) -> str:
    """Returns `url` without secrets, cut to about 200 characters, for messages and logs."""
    text = _redacted(url, "")
    return text if len(text) <= MAX_URL else text[:MAX_URL] + "…"


def without_queries(text: str) -> str:
    """Removes user, password, query and fragment from every address in `text`; "…" marks what was removed."""
    return _ADDRESS.sub(lambda found: _redacted(found[0], "…"), text) if ":" in text else text


def _redacted(url: str, instead: str) -> str:
    if url[:5].lower() == "data:":
        return "data:…"
    parts = _START.fullmatch(url)
    if parts is None or parts[1].partition(":")[0].lower() in _OBJECTS:
        return url
    user, at, host = parts[2].rpartition("@")
    # Clients disagree about a password with "/", "?" or "#" in it, so nothing after the scheme is shown.
    password = ":" in host and not re.fullmatch(r"(\[[^\]]*\]|[^:]*):[0-9]*", host)
    if password and "@" in parts[3] + parts[4]:
        return parts[1] + "…"
    return parts[1] + (instead if user or at else "") + host + parts[3] + (instead if parts[4] else "")
