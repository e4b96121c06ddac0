"""Globs over object keys.

`*` is any run of characters, "/" included; `?` is one character; `{a,b}` is a or b, and may hold wildcards or further
braces. Every other character stands for itself, also "[", "]", "|", "'" and braces without a comma: keys hold them.
A file's extension, what stands after the last dot, has no case: `*.mp3` matches "TALK.MP3".

Shell globs treat "[" and "/" specially, and a regular expression of many stars can take for ever on a key that does not
match. `*/audios/*.mp3` matches at any depth, but not `audios/x.mp3` at the root.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice

from manifests.errors import ConfigError

MAX_ALTERNATIVES = 1000
"""Most combinations that one pattern's braces may stand for."""

_MAX_BRACES = 64
_EXTENSION = re.compile(r"\.[A-Za-z0-9?]{1,10}\Z")
_TURNED = str.maketrans("{}", "}{")


@lru_cache(maxsize=1024)
def compile_globs(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Returns one expression that matches a whole key when any of `patterns` does; without patterns it matches none.

    The time to match is at most proportional to the length of the key times that of the pattern. Raises ConfigError for
    a pattern whose braces stand for more than MAX_ALTERNATIVES combinations.
    """
    plain = [one for pattern in patterns for one in _expanded(pattern)]
    return re.compile("|".join(_expression(one) for one in plain) if plain else r"(?!)", re.DOTALL)


def matches_any(patterns: tuple[str, ...], key: str) -> bool:
    return compile_globs(patterns).fullmatch(key) is not None


def literal_prefixes(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the prefixes of keys that match any of `patterns`; () without patterns. Raises as `compile_globs`."""
    return tuple(dict.fromkeys(re.split(r"[*?]", one, maxsplit=1)[0] for p in patterns for one in _expanded(p)))


def shortest(prefixes: Iterable[str]) -> tuple[str, ...]:
    """Returns those of `prefixes` that begin with no other one: together they cover all keys below any."""
    kept: list[str] = []
    for prefix in sorted(prefixes):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)


def _expression(glob: str) -> str:
    """Returns the expression for a glob without alternatives.

    The text between two stars is matched where it first occurs and never searched further right: a later place is no
    better, and with many stars a search of all places would not end.
    """
    *parts, ending = re.split(r"\*+", glob)
    dot = len(ending) - len(extension_of(ending))
    last = _literal(ending[:dot]) + (f"(?i:{_literal(ending[dot:])})" if ending[dot:] else "")
    if not parts:
        return last
    first, *middle = (_literal(part) for part in parts)
    return first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last


def extension_of(text: str) -> str:
    """Returns the end of a pattern, suffix or key that is an extension, with its dot; "" when there is none."""
    found = _EXTENSION.search(text)
    return found[0] if found else ""


def ends_with(key: str, suffix: str) -> bool:
    """Returns whether `key` ends with `suffix`, an extension in any case."""
    dot = len(suffix) - len(extension_of(suffix))
    end = key[len(key) - len(suffix) :] if len(key) >= len(suffix) else ""
    return end[:dot] == suffix[:dot] and end[dot:].lower() == suffix[dot:].lower()


def _literal(part: str) -> str:
    return "".join("." if c == "?" else re.escape(c) for c in part)


def _expanded(pattern: str) -> list[str]:
    if pattern.count("{") <= _MAX_BRACES:
        found = list(islice(_combinations(pattern), MAX_ALTERNATIVES + 1))
        if len(found) <= MAX_ALTERNATIVES:
            return found
    raise ConfigError(
        f"The pattern {pattern[:200]!r} stands for more than {MAX_ALTERNATIVES} combinations.",
        hint="Use fewer braces, or several triggers.",
    )


def literal_suffixes(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the suffixes of keys that match any of `patterns`. A glob read backwards is a glob."""
    turned = tuple(pattern[::-1].translate(_TURNED) for pattern in patterns)
    return tuple(found[::-1].translate(_TURNED) for found in literal_prefixes(turned))


def _combinations(pattern: str, start: int = 0) -> Iterator[str]:
    """Yields `pattern` once for each choice of alternatives, the first braces first."""
    while (opened := pattern.find("{", start)) >= 0:
        choices, closed = _choices(pattern, opened)
        if len(choices) > 1:
            for choice in choices:
                yield from _combinations(pattern[:opened] + choice + pattern[closed + 1 :], opened)
            return
        start = opened + 1
    yield pattern


def _choices(pattern: str, opened: int) -> tuple[list[str], int]:
    """Returns the choices in the braces opened at `opened` and where they close; no choices if they do not close."""
    depth, begin = 0, opened + 1
    choices: list[str] = []
    for i in range(opened, len(pattern)):
        c = pattern[i]
        if c == "{":
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                return [*choices, pattern[begin:i]], i
        elif c == "," and depth == 1:
            choices.append(pattern[begin:i])
            begin = i + 1
    return [], opened
