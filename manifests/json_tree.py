"""JSON to a plain tree: no duplicate names, no NaN, no depth that a recursive parser could not bear."""

from __future__ import annotations

import json
import re

from manifests.tree import MAX_DEPTH, Tree, fail, number, place_after, shorten, too_deep

_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def parse_json(text: str, key: str) -> Tree:
    """Raises ManifestSyntax or ManifestTooDeep."""
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
        fail(f"is not JSON: {e.msg[:1].lower()}{e.msg[1:]}", key, place_after(text[: e.pos]), cause=e)


def _check_depth(text: str, key: str) -> None:
    """Counts brackets outside strings before the parser, which is recursive, sees them."""
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        token = found[0]
        if token in ("[", "{"):
            depth += 1
            if depth > MAX_DEPTH:
                too_deep(key)
        elif token in ("]", "}"):
            depth -= 1
