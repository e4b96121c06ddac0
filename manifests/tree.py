"""What every reader of documents shares: plain trees, their limits, decoding, and errors with line and column."""

from __future__ import annotations

import codecs
import math
from typing import NoReturn, TypeAlias

from manifests.errors import ManifestSyntax, ManifestTooDeep
from manifests.shown import without_secrets_in

MAX_DEPTH = 20
MAX_DIGITS = 300
"""Longest number; Python itself refuses to convert integers of more than 4300 digits."""

Tree: TypeAlias = "str | int | float | bool | list[Tree] | dict[str, Tree] | None"


def decode_document(data: bytes, key: str) -> str:
    """UTF-8 with or without a byte order mark, or UTF-16 with one."""
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as e:
        before = data[: e.start].decode(encoding, "replace")
        name = encoding.removesuffix("-sig").upper()
        fail(f"is not {name} text", key, place_after(before), hint="Save it as UTF-8.", cause=e)


def number(text: str, key: str, at: tuple[int, int] | None = None) -> int | float:
    """The number `text` stands for; NaN, infinities and numbers beyond a double's range are refused."""
    if len(text) > MAX_DIGITS:
        fail(f"holds a number of {len(text)} characters", key, at)
    if text.removeprefix("-").isdigit():
        return int(text)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        fail(f"holds {shorten(text)}, which is no finite number", key, at)
    return value


def place_after(before: str) -> tuple[int, int]:
    """Line and column, both from 1, of the character that follows `before`."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def fail(
    problem: str, key: str, at: tuple[int, int] | None = None, *, hint: str = "", cause: BaseException | None = None
) -> NoReturn:
    """Raises ManifestSyntax: the file at `key` `problem`, `at` a line and column from 1."""
    place = f"{key}, line {at[0]}, column {at[1]}" if at else key
    message = f"{place}: the file {problem}."
    raise ManifestSyntax(message, hint=hint or "Correct the file and drop it again.", where=place) from cause


def too_deep(key: str) -> NoReturn:
    raise ManifestTooDeep(
        f"{key} nests lists and objects more than {MAX_DEPTH} deep.", hint="Flatten its metadata.", where=key
    )


def shorten(value: object, limit: int = 60) -> str:
    """`value` as it may stand in a sentence: a text in quotes, at most about `limit` characters of it."""
    if value is None:
        return "null"
    if isinstance(value, str):
        value = without_secrets_in(value)
        return f"'{escaped(value)}'" if len(value) <= limit else f"'{escaped(value[:limit])}…'"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        text = str(value)
        return text if len(text) <= limit else text[:limit] + "…"
    return "a list" if isinstance(value, list | tuple) else "an object"


def escaped(text: str) -> str:
    """`text` on one line: control characters as their escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
