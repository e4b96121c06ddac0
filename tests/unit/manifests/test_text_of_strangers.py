"""Words of strangers: whatever they hold, what is shown is one harmless line."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.text import MAX_BYTES, plain_text, storable

_ODD = st.text(st.characters() | st.sampled_from("\x1b\x9b[]0;m\x07\x9c\u202e\u2066\ufeff\u2028\n\r\t"))


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("\x1b[31mred\x1b[0m, \x1b[2Jgone", "red, gone"),
        ("\x1b]0;a title\x07said\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "saidlink"),
        ("\x9b31mred\x1bPdata\x9cend", "redend"),
        ("one\r\ntwo\u2028three\x00\x08", "one two three"),
        ("safe\u202egnp.exe", "safegnp.exe"),
        ("متن فارسی می‌خواهم 👩\u200d🚀", "متن فارسی می‌خواهم 👩\u200d🚀"),
        ("as it was", "as it was"),
    ],
)
def test_what_is_shown_is_one_line_without_orders(told: str, shown: str) -> None:
    assert plain_text(told) == shown


@settings(deadline=None)
@given(_ODD)
def test_no_text_keeps_anything_that_a_terminal_obeys(text: str) -> None:
    shown = plain_text(text)
    assert not any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in shown)
    assert not any(each in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff" for each in shown)
    assert len(shown.encode()) <= MAX_BYTES


def test_a_long_text_is_cut_between_characters() -> None:
    for text in ("x" * 10_000_000, "é" * 5000, "\x1b[1m" * 5000 + "é" * 9000):
        assert len(plain_text(text).encode()) <= MAX_BYTES
    assert plain_text("é" * 5000).endswith("é…")


def test_a_speakers_text_loses_only_what_no_document_holds() -> None:
    assert storable(" a\x00b\x1b[1mc\u202ed\n\ud800e") == " ab[1mc\u202ed\ne"
