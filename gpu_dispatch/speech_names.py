"""Names of Whisper's languages and models, for its own worker and for published ones."""

from __future__ import annotations

from collections.abc import Iterator

UNDETERMINED = "und"
"""ISO 639 code for a recording without speech."""

SAME_MODELS = (("turbo", "large-v3-turbo"), ("large-v3", "large"))
"""Names of one model; published workers know the first."""

_SIZES_IN_ENGLISH_TOO = ("tiny", "base", "small", "medium")
_LARGE = ("large", "large-v1", "large-v2", "large-v3", "large-v3-turbo", "turbo")

PUBLISHED = frozenset((*_SIZES_IN_ENGLISH_TOO, *(f"{size}.en" for size in _SIZES_IN_ENGLISH_TOO), *_LARGE))
"""Whisper's models, published for every engine."""

_DISTILLED_OF = ("small.en", "medium.en", "large-v2", "large-v3", "large-v3.5")

DISTILLED = frozenset(f"distil-{teacher}" for teacher in _DISTILLED_OF)
"""Published for faster-whisper and transformers."""

_OTHER_NAMES = {"cmn": "zh", "fil": "tl", "iw": "he", "jv": "jw", "nb": "no", "zh-hk": "yue"}


def language_candidates(tag: str) -> Iterator[str]:
    """Yields the codes that Whisper may have for a tag such as "pt", "pt-BR" or "EN", the most exact one first."""
    tag = tag.lower()
    primary = tag.split("-")[0]
    yield _OTHER_NAMES.get(tag, primary)
    yield _OTHER_NAMES.get(primary, primary)


def cannot_translate(model: str) -> bool:
    """Whether `model` is published as one that only transcribes: turbo and the distilled ones were trained without
    translations, and an English-only one has none to make."""
    return model in DISTILLED or model in SAME_MODELS[0] or (model in PUBLISHED and model.endswith(".en"))
