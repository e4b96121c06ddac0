"""Characters that act on a terminal or on the order of reading are shown, all others are left alone."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from manifests.text import printable


@given(st.text(st.characters(codec=None)))
def test_nothing_acts(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in shown)
    assert not any(
        unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI") for c in shown
    )
    shown.encode()


def test_pictures() -> None:
    assert printable("a\x1b[31m\x7f\x9b\u202e\n") == "a\u241b[31m\u2421\ufffd\ufffd\u240a"
    assert printable("line\nnext\t", keep="\n\t") == "line\nnext\t"
    assert printable("zażółć 東京 🎬 \u200d") == "zażółć 東京 🎬 \u200d"
