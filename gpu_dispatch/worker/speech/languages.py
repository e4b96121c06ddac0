"""Language tags as users write them, and the codes Whisper knows."""

from __future__ import annotations

from collections.abc import Set

from manifests.errors import LanguageUnsupported

UNDETERMINED = "und"
"""ISO 639's code for a recording in which nobody speaks."""

_OTHER_NAMES = {
    "cmn": "zh",
    "fil": "tl",
    "iw": "he",
    "jv": "jw",
    "nb": "no",
    "zh-hk": "yue",
}


def whisper_code(tag: str, known: Set[str], *, model: str) -> str:
    """The code for a tag such as "pt", "pt-BR" or "EN"; raises LanguageUnsupported when `model` lacks it."""
    tag = tag.lower()
    primary = tag.split("-")[0]
    for code in (_OTHER_NAMES.get(tag, primary), primary, _OTHER_NAMES.get(primary, primary)):
        if code in known:
            return code
    if known == {"en"}:
        message = f"The model {model!r} understands English only, not {tag!r}."
        hint = "Take a model without '.en' in its name, or language: en."
    else:
        message = f"The model {model!r} does not know the language {tag!r}."
        hint = "Use a two-letter code such as en, es or pt, or omit it to have the language detected."
    raise LanguageUnsupported(message, hint=hint, where="language")
