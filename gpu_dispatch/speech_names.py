"""Names of Whisper's languages and models, for its own worker and for published ones."""

from __future__ import annotations

from collections.abc import Iterator

UNDETERMINED = "und"
"""ISO 639 code for a recording without speech."""

SAME_MODELS = (("turbo", "large-v3-turbo"), ("large-v3", "large"))
"""Names of one model; published workers know the first."""

_OTHER_NAMES = {"cmn": "zh", "fil": "tl", "iw": "he", "jv": "jw", "nb": "no", "zh-hk": "yue"}


def language_candidates(tag: str) -> Iterator[str]:
    """Yields the codes that Whisper may have for a tag such as "pt", "pt-BR" or "EN", the most exact one first."""
    tag = tag.lower()
    primary = tag.split("-")[0]
    yield _OTHER_NAMES.get(tag, primary)
    yield _OTHER_NAMES.get(primary, primary)
