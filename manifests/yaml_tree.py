"""YAML to a plain tree, built from parser events.

Aliases, anchors and tags are refused as their events appear, before anything could be expanded. Plain scalars are
read as in JSON: `no`, `12:30` and `2024-01-01` stay text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from manifests.errors import ManifestAliases
from manifests.tree import MAX_DEPTH, Tree, fail, number, place_after, shorten, too_deep

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|nan)", re.IGNORECASE)
_WORDS: dict[str, bool | None] = {
    word: value
    for name, value in (("true", True), ("false", False), ("null", None))
    for word in (name, name.capitalize(), name.upper())
} | {"": None, "~": None}

# One piece: white space, a comment, a quoted scalar, an indicator, a plain scalar. Unfinished quotes run to the end.
_PIECE = r"""\s+|\#[^\n]*|"(?:[^"\\]|\\.)*+"?|'(?:[^']|'')*+'?|[][{},]|[-?:](?=[\s\[\]{},"']|$)|"""
_IN_FLOW = re.compile(_PIECE + r"[^\s[\]{},](?:(?!:[\s[\]{},]|\s\#)[^[\]{},])*+", re.DOTALL)
_IN_BLOCK = re.compile(_PIECE + r"[|>].*|[^\s[\]{},|>](?:(?!:\s|\s\#)[^\n])*+", re.DOTALL)


def parse_yaml(text: str, key: str) -> Tree:
    """The one document in `text`; None when there is only white space and comments.

    Raises ManifestSyntax, ManifestAliases or ManifestTooDeep.
    """
    events = _Events(text, key)
    try:
        tree: Tree = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    fail("holds more than one document", key, _place(event), hint="Drop one file a manifest.")
                tree = _node(next(events), events, key)
        return tree
    except yaml.reader.ReaderError as e:
        at = place_after(text[: max(0, text.find(chr(e.character)))])
        fail(f"holds a character YAML forbids: {e.reason}", key, at, cause=e)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark
        events.check_depth_until(mark.index if mark else len(text))
        at = (mark.line + 1, mark.column + 1) if mark else None
        fail(f"is not YAML: {e.problem or e.context}", key, at, cause=e)


class _Events:
    """The parser's events. Counts how deep they nest, and raises ManifestTooDeep before anything follows them down."""

    def __init__(self, text: str, key: str) -> None:
        # libyaml reads 1 MiB in a fraction of a second, the parser in Python needs tens of them.
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

        A parser reads about 1,000 characters ahead of its events, and may meet a limit of its own on the way.
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
            fail(f"gives {shorten(name)} twice", key, _place(event), hint="Keep one of them.")
        fields[name] = _node(next(events), events, key)
    return fields


def _refuse_extras(event: Any, key: str) -> None:
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        line, column = _place(event)
        raise ManifestAliases(
            f"{key}, line {line}, column {column}: anchors (&) and aliases (*) are not allowed.",
            hint="Write the value out, or quote a text that starts with & or *.",
            where=f"{key}, line {line}, column {column}",
        )
    if getattr(event, "tag", None):
        hint = "Leave the tag out, or quote a text that starts with !."
        fail(f"holds the tag {shorten(event.tag)}", key, _place(event), hint=hint)


def _name(event: Any, key: str) -> str:
    _refuse_extras(event, key)
    if not isinstance(event, yaml.ScalarEvent):
        fail("has a list or an object as the name of a field", key, _place(event))
    return str(event.value)


def _scalar(event: Any, key: str) -> Tree:
    text = str(event.value)
    if event.style:  # quoted, or a block
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.fullmatch(text):
        return number(text, key, _place(event))
    if _NOT_FINITE.fullmatch(text):
        fail(f"holds {text}, which is no finite number", key, _place(event))
    return text


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
