"""Which words of one text are those of another."""

from __future__ import annotations

import random
import tracemalloc
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.worker.speech.text_match import match_tokens

tokens = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f"]), max_size=40)


def natural(count: int, seed: int) -> list[str]:
    """Words with the frequencies of a language: few very common ones, many rare ones."""
    rng = random.Random(seed)
    return [f"w{min(int(rng.paretovariate(0.8)), 9000)}" for _ in range(count)]


def edited(words: list[str], share: float, seed: int) -> tuple[list[str], set[int]]:
    """Changes, drops and adds `share` of the words each; returns the result and the indices that stay."""
    rng = random.Random(seed)
    result: list[str] = []
    kept: set[int] = set()
    for k, word in enumerate(words):
        fate = rng.random() / share
        if fate < 1:
            continue
        if fate < 2:
            result.append(f"other{rng.randrange(10_000)}")
            continue
        result += [f"new{rng.randrange(10_000)}", word] if fate < 3 else [word]
        kept.add(k)
    return result, kept


@given(tokens, tokens)
def test_pairs_are_equal_and_in_order(first: list[str], second: list[str]) -> None:
    pairs = match_tokens(first, second)
    assert all(first[i] == second[j] for i, j in pairs)
    assert all(a < c and b < d for (a, b), (c, d) in pairwise(pairs))


@given(tokens)
def test_a_text_is_itself(words: list[str]) -> None:
    assert match_tokens(words, words) == [(k, k) for k in range(len(words))]


def test_an_edited_text_is_found_word_for_word_in_little_memory() -> None:
    words = natural(8_000, 1)
    for seed, share in ((2, 0.02), (3, 0.1)):
        other, kept = edited(words, share, seed)
        tracemalloc.start()
        found = match_tokens(words, other)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(found) >= len(kept) * 0.995
        assert peak < 30 * 2**20


def test_a_refrain_for_an_hour_ends_soon_and_matches() -> None:
    assert len(match_tokens(["la"] * 6000, ["la"] * 5000)) == 5000
    assert len(match_tokens(["la", "lo"] * 1500, ["lo", "lo", "la"] * 1000)) >= 1500


def test_a_missing_chapter_shifts_nothing() -> None:
    words = natural(3000, 4)
    pairs = match_tokens(words, words[:1000] + words[2000:])
    assert {i for i, _ in pairs} >= {*range(990), *range(2010, 3000)}


def test_common_words_of_other_texts_are_no_partners() -> None:
    first, second = "x y z of a b c d e f g h q", "x y z i j k l of m n o p q"
    assert match_tokens(first.split(), second.split()) == [(0, 0), (1, 1), (2, 2), (12, 12)]
