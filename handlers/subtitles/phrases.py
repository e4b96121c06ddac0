"""Where phrases begin in scripts without spaces, by BudouX's models of Japanese, Chinese and Thai."""

from __future__ import annotations

import re
from functools import cache

from budoux.parser import (
    Parser,
    load_default_japanese_parser,
    load_default_simplified_chinese_parser,
    load_default_thai_parser,
    load_default_traditional_chinese_parser,
)

_KANA = re.compile("[\u3041-\u30ff]")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_THAI = re.compile("[\u0e00-\u0e7f]")
_TRADITIONAL = ("zh-tw", "zh-hk", "zh-hant", "zh-mo", "yue")
_SENTENCE = re.compile("[^。！？!?]{1,1000}[。！？!?」』）]*|[。！？!?」』）]+")
"""What is looked at together: the models' time grows faster than the text."""
_ENDED = re.compile("[。！？!?」』）]$")

_JAPANESE_TAIL = re.compile("(?:を|は|が|に|で|も|と|へ|から|まで|より|ので|のに|けど|けれど|ば|たら|なら|て|し)$")
"""Particles and conjunctive endings: the best places within a sentence."""
_JAPANESE_BOUND = re.compile(
    "(?:いる|いた|いて|いま|ある|あっ|あり|こと|もの|ため|ところ|とき|よう|という|なる|なっ|する|して|した|くださ|しま|みる|ない)"
)
"""Formal nouns and auxiliary verbs, which lean on what stands before them."""


def phrase_starts(text: str, language: str) -> frozenset[int]:
    """Returns the offsets in `text` where a phrase begins; none for scripts that no model knows."""
    parser = _parser(text, language.lower().replace("_", "-"))
    if parser is None:
        return frozenset()
    starts: set[int] = set()
    for match in _SENTENCE.finditer(text):
        at = match.start()
        if at == 0 or _ENDED.search(text[at - 1]):
            starts.add(at)
        for phrase in parser.parse(match[0])[:-1]:
            at += len(phrase)
            starts.add(at)
    return frozenset(starts)


def phrase_cost(left: str, right: str) -> float:
    """Returns how bad a break between two phrases is, from 0 to 1."""
    if _JAPANESE_BOUND.match(right):
        return 1.0
    if left.endswith(("の", "的", "な")):
        return 0.8
    return 0.3 if _JAPANESE_TAIL.search(left) else 0.6


def _parser(text: str, language: str) -> Parser | None:
    if _THAI.search(text):
        return _thai()
    if _KANA.search(text) or (_HAN.search(text) and language.startswith("ja")):
        return _japanese()
    if not _HAN.search(text):
        return None
    return _traditional() if language.startswith(_TRADITIONAL) else _simplified()


_japanese = cache(load_default_japanese_parser)
_simplified = cache(load_default_simplified_chinese_parser)
_traditional = cache(load_default_traditional_chinese_parser)
_thai = cache(load_default_thai_parser)
