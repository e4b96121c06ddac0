"""Names of buckets and keys as they come from outside: what can be one, and what a spelling may mean."""

from __future__ import annotations

import re
from enum import Enum
from urllib.parse import unquote_plus

from listener.decoding.outcome import IgnoredRecord
from listener.decoding.trees import Json

MAX_KEY_BYTES = 1024
"""As UTF-8: the limit of S3 and of the stores that follow it."""

_MAX_SPELLED = 3 * MAX_KEY_BYTES
"""Characters: every byte may be written as "%41"."""

# Names of before 2018 may have capitals, underscores and up to 255 characters. Never a "/": it would reach elsewhere.
_BUCKET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{2,254}")


class Spelling(Enum):
    """How the key in a record is written. The record does not tell."""

    RAW = "raw"
    """As users see it."""
    QUERY = "query"
    """As in a form: "in%2Fa+b". Decoding a raw key this way ruins its "+" and "%"."""
    EITHER = "either"
    """It cannot be told; a HEAD can."""


def bucket_of(name: Json) -> str | IgnoredRecord:
    if not isinstance(name, str) or not name:
        return IgnoredRecord("no_bucket")
    if _BUCKET.fullmatch(name) and ".." not in name:
        return name
    return IgnoredRecord("bad_bucket", ascii(name[:120]))


def keys_of(key: Json, spelling: Spelling, *, named: str = "") -> tuple[str, ...] | IgnoredRecord:
    """The keys that `key` may mean: two where the spelling is in doubt and makes a difference, else one.

    `named` is the same key as an envelope repeats it, raw; it settles a doubt. "" where there is none.
    """
    if not isinstance(key, str) or not key:
        return IgnoredRecord("no_key")
    if len(key) > _MAX_SPELLED:
        return IgnoredRecord("key_too_long", f"{len(key)} characters: {key[:80]!a}")
    if spelling is Spelling.RAW or ("%" not in key and "+" not in key):
        return _usable(key)
    if spelling is Spelling.QUERY:
        return _unescaped(key)
    if named and named in (key, unquote_plus(key)):
        return _usable(named)
    raw, unescaped = _usable(key), _unescaped(key)
    if isinstance(raw, IgnoredRecord):
        return unescaped
    return raw if isinstance(unescaped, IgnoredRecord) or raw == unescaped else raw + unescaped


def _unescaped(key: str) -> tuple[str] | IgnoredRecord:
    try:
        return _usable(unquote_plus(key, errors="strict"))
    except UnicodeError:
        return IgnoredRecord("key_not_text", ascii(key[:120]))


def _usable(key: str) -> tuple[str] | IgnoredRecord:
    try:
        size = len(key) if key.isascii() else len(key.encode())
    except UnicodeError:
        return IgnoredRecord("key_not_text", ascii(key[:120]))
    if "\0" in key:
        return IgnoredRecord("key_not_text", ascii(key[:120]))
    return (key,) if size <= MAX_KEY_BYTES else IgnoredRecord("key_too_long", f"{size} bytes: {key[:80]!a}")
