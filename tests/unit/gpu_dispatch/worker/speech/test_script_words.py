"""A script's words and their plain forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.worker.speech.script_words import atoms_of, script_words


@given(st.lists(st.text(alphabet="aZé 0,.-—'“”\n日本。「」ใช่👍", max_size=60), max_size=4))
def test_no_letter_of_a_script_is_lost(blocks: list[str]) -> None:
    words = script_words(tuple(blocks))
    for number, block in enumerate(blocks):
        own = [word for word in words if word.block == number]
        joined = "".join(word.lead + word.text for word in own)
        assert "".join(joined.split()) == ("".join(block.split()) if own else "")
        assert all(word.atoms and word.text == word.text.strip() for word in own)


@pytest.mark.parametrize(
    ("text", "words", "atoms"),
    [
        ("Hello — “world”!", ["Hello —", "“world”!"], ["hello", "world"]),
        ("It’s $12,500.", ["It’s", "$12,500."], ["its", "12", "500"]),
        ("— Café, naïve", ["— Café,", "naïve"], ["cafe", "naive"]),
        ("well-known", ["well-known"], ["well", "known"]),
        ("今日は「晴れ」。", ["今", "日", "は", "「晴", "れ」。"], ["今", "日", "は", "晴", "れ"]),
        ("AIです", ["AI", "で", "す"], ["ai", "で", "す"]),
        ("***", [], []),
    ],
)
def test_words_keep_their_signs_and_are_compared_without(text: str, words: list[str], atoms: list[str]) -> None:
    found = script_words((text,))
    assert [word.text for word in found] == words
    assert [atom for word in found for atom in word.atoms] == atoms


def test_case_width_and_accents_do_not_count() -> None:
    assert atoms_of("ＡＢＣ ÉCOLE Straße don't DON’T") == ("abc", "ecole", "strasse", "dont", "dont")


def test_line_ends_are_remembered() -> None:
    assert [word.lead for word in script_words(("one two\nthree",))] == [" ", " ", "\n"]
