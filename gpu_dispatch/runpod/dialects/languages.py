"""The languages Whisper knows, for workers that fail late, on the GPU, over a code it does not."""

from __future__ import annotations

_CODES = (
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id"
    " is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd"
    " si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo zh yue"
)
CODES = frozenset(_CODES.split())
_YUE_MODELS = frozenset({"large-v3", "turbo"})
"""Older models were trained without Cantonese."""

_OTHER_NAMES = {"cmn": "zh", "fil": "tl", "iw": "he", "jv": "jw", "nb": "no", "zh-hk": "yue"}
_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})


def known_language_code(tag: str, model: str) -> str | None:
    """Whisper's code for a tag such as "pt", "pt-BR" or "EN"; None where `model` knows no such language."""
    tag = tag.lower()
    primary = tag.split("-")[0]
    for code in (_OTHER_NAMES.get(tag, primary), _OTHER_NAMES.get(primary, primary)):
        if code in CODES and (code != "yue" or model in _YUE_MODELS):
            return code
    return None


def spaced(language: str) -> bool:
    """Whether words of `language` are written with spaces between them."""
    return language not in _UNSPACED
