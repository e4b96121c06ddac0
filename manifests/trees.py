"""JSON and YAML parsed into plain trees: within limits, without duplicate names, errors with line and column.

Aliases, anchors and tags are refused as their events appear, before anything can expand. Plain scalars are read as in
JSON: `no`, `12:30` and `2024-01-01` stay text.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn, TypeAlias

import yaml

from manifests.errors import ManifestAliases, ManifestSyntax, ManifestTooDeep
from manifests.text import without_secrets_in

MAX_DEPTH = 20
MAX_DIGITS = 300
"""Characters of the longest number; Python refuses to convert integers of more than 4300 digits."""

Tree: TypeAlias = "str | int | float | bool | list[Tree] | dict[str, Tree] | None"


def decode_document(data: bytes, key: str) -> str:
    """Decodes UTF-8 with or without a byte order mark, or UTF-16 with one."""
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as e:
        before = data[: e.start].decode(encoding, "replace")
        name = encoding.removesuffix("-sig").upper()
        fail(f"is not {name} text", key, position_after(before), hint="Save it as UTF-8.", cause=e)


def number(text: str, key: str, at: tuple[int, int] | None = None) -> int | float:
    """Converts `text` to a number; refuses NaN, infinities and numbers beyond a double's range."""
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


def position_after(before: str) -> tuple[int, int]:
    """Returns line and column, both from 1, of the character after `before`."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def fail(
    problem: str, key: str, at: tuple[int, int] | None = None, *, hint: str = "", cause: BaseException | None = None
) -> NoReturn:
    """Raises ManifestSyntax: "the file `problem`" at `key`; `at` is line and column, both from 1."""
    place = f"{key}, line {at[0]}, column {at[1]}" if at else key
    message = f"{place}: the file {problem}."
    raise ManifestSyntax(message, hint=hint or "Correct the file and drop it again.", where=place) from cause


def too_deep(key: str) -> NoReturn:
    raise ManifestTooDeep(
        f"{key} nests lists and objects more than {MAX_DEPTH} deep.", hint="Flatten its metadata.", where=key
    )


def shorten(value: object, limit: int = 60) -> str:
    """Formats `value` for a sentence: a text in quotes, cut to about `limit` characters."""
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
    """Returns `text` on one line, with control characters escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def parse_json(text: str, key: str) -> Tree:
    """Parses a JSON document. Raises ManifestSyntax or ManifestTooDeep."""
    _check_depth(text, key)

    def unique(pairs: list[tuple[str, Tree]]) -> dict[str, Tree]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))
            fail(f"gives {shorten(twice)} twice in one object", key, hint="Keep one of them.")
        return fields

    def literal(text: str) -> Tree:
        return number(text, key)

    try:
        return json.loads(
            text, object_pairs_hook=unique, parse_int=literal, parse_float=literal, parse_constant=literal
        )
    except json.JSONDecodeError as e:
        fail(f"is not JSON: {e.msg[:1].lower()}{e.msg[1:]}", key, position_after(text[: e.pos]), cause=e)


def _check_depth(text: str, key: str) -> None:
    """Counts brackets outside strings before the recursive parser runs."""
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        token = found[0]
        if token in ("[", "{"):
            depth += 1
            if depth > MAX_DEPTH:
                too_deep(key)
        elif token in ("]", "}"):
            depth -= 1


_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|nan)", re.IGNORECASE)
_WORDS: dict[str, bool | None] = {
    word: value
    for name, value in (("true", True), ("false", False), ("null", None))
    for word in (name, name.capitalize(), name.upper())
} | {"": None, "~": None}

# A piece is white space, a comment, a quoted scalar, an indicator or a plain scalar. Open quotes run to the end.
_PIECE = r"""\s+|\#[^\n]*|"(?:[^"\\]|\\.)*+"?|'(?:[^']|'')*+'?|[][{},]|[-?:](?=[\s\[\]{},"']|$)|"""
_IN_FLOW = re.compile(_PIECE + r"[^\s[\]{},](?:(?!:[\s[\]{},]|\s\#)[^[\]{},])*+", re.DOTALL)
_IN_BLOCK = re.compile(_PIECE + r"[|>].*|[^\s[\]{},|>](?:(?!:\s|\s\#)[^\n])*+", re.DOTALL)


def parse_yaml(text: str, key: str) -> Tree:
    """Parses one YAML document; None without content. Raises ManifestSyntax, ManifestAliases or ManifestTooDeep."""
    events = _Events(text, key)
    try:
        tree: Tree = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    fail("holds more than one document", key, _position(event), hint="Drop one file a manifest.")
                tree = _node(next(events), events, key)
        return tree
    except yaml.reader.ReaderError as e:
        at = position_after(text[: max(0, text.find(chr(e.character)))])
        fail(f"holds a character YAML forbids: {e.reason}", key, at, cause=e)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark
        events.check_depth_until(mark.index if mark else len(text))
        at = (mark.line + 1, mark.column + 1) if mark else None
        fail(f"is not YAML: {e.problem or e.context}", key, at, cause=e)


class _Events:
    """Yields the parser's events, and raises ManifestTooDeep before recursive code sees too deep a one."""

    def __init__(self, text: str, key: str) -> None:
        # libyaml parses 1 MiB in a fraction of a second, the parser in Python in tens of seconds.
        loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
        self._events: Iterator[Any] = yaml.parse(text, Loader=loader)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        self._text = text
        self._key = key
        self._end = 0
        self._flows: list[bool] = []

    def __iter__(self) -> _Events:
        return self

    def __next__(self) -> Any:
        event = next(self._events)
        self._end = event.end_mark.index
        if isinstance(event, yaml.CollectionStartEvent):
            self._flows.append(bool(event.flow_style))
            if len(self._flows) > MAX_DEPTH:
                too_deep(self._key)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._flows.pop()
        return event

    def check_depth_until(self, index: int) -> None:
        """Raises ManifestTooDeep when the text from the last event's end to `index` nests too deep.

        A parser reads about 1,000 characters ahead of its events, and may meet its own limit there.
        """
        depth, flow = len(self._flows), sum(self._flows)
        position = self._end
        while found := (_IN_FLOW if flow else _IN_BLOCK).match(self._text, position, index):
            position = found.end()
            step = {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
            depth, flow = depth + step, flow + step
            if depth > MAX_DEPTH:
                too_deep(self._key)


def _node(event: Any, events: _Events, key: str) -> Tree:
    _refuse_extras(event, key)
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event, key)
    if isinstance(event, yaml.SequenceStartEvent):
        items: list[Tree] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(_node(event, events, key))
        return items
    fields: dict[str, Tree] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        name = _name(event, key)
        if name in fields:
            fail(f"gives {shorten(name)} twice", key, _position(event), hint="Keep one of them.")
        fields[name] = _node(next(events), events, key)
    return fields


def _refuse_extras(event: Any, key: str) -> None:
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        line, column = _position(event)
        raise ManifestAliases(
            f"{key}, line {line}, column {column}: anchors (&) and aliases (*) are not allowed.",
            hint="Write the value out, or quote a text that starts with & or *.",
            where=f"{key}, line {line}, column {column}",
        )
    if getattr(event, "tag", None):
        hint = "Leave the tag out, or quote a text that starts with !."
        fail(f"holds the tag {shorten(event.tag)}", key, _position(event), hint=hint)


def _name(event: Any, key: str) -> str:
    _refuse_extras(event, key)
    if not isinstance(event, yaml.ScalarEvent):
        fail("has a list or an object as the name of a field", key, _position(event))
    return str(event.value)


def _scalar(event: Any, key: str) -> Tree:
    text = str(event.value)
    if event.style:  # quoted or block
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.fullmatch(text):
        return number(text, key, _position(event))
    if _NOT_FINITE.fullmatch(text):
        fail(f"holds {text}, which is no finite number", key, _position(event))
    return text


def _position(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
