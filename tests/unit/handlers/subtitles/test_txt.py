"""Plain text: paragraphs where the speaker makes them."""

from __future__ import annotations

from handlers.subtitles.txt import PARAGRAPH_CHARACTERS, write_txt
from handlers.subtitles.words import speech_of
from support.transcripts import segment, spoken, transcript

SENTENCE = "We met Mr. Brown of the U.S. embassy on Monday, J. Smith came later."


def test_sentences_of_one_breath_are_one_paragraph() -> None:
    said = transcript(spoken("It rains."), spoken("We stay.", 1.5), spoken("Then it stops.", 2.6))
    assert write_txt(speech_of(said)) == "It rains. We stay. Then it stops.\n"


def test_a_pause_after_a_sentence_begins_a_paragraph_and_one_inside_it_only_a_long_one() -> None:
    starts = {"It rains.": 0.0, "We stay": 4.0, "inside.": 7.0, "And": 20.0, "go": 30.0}
    said = transcript(*(spoken(text, start) for text, start in starts.items()))
    assert write_txt(speech_of(said)) == "It rains.\n\nWe stay inside.\n\nAnd\n\ngo\n"


def test_a_full_paragraph_ends_with_a_sentence_and_never_with_an_abbreviation() -> None:
    said = transcript(spoken(" ".join([SENTENCE] * 40), gap=0.0))
    paragraphs = write_txt(speech_of(said)).rstrip("\n").split("\n\n")
    assert len(paragraphs) > 3 and " ".join(paragraphs) == " ".join([SENTENCE] * 40)
    assert all(p.endswith("later.") and "\n" not in p for p in paragraphs)
    assert all(PARAGRAPH_CHARACTERS <= len(p) < PARAGRAPH_CHARACTERS + len(SENTENCE) + 1 for p in paragraphs[:-1])


def test_japanese_has_no_spaces_between_segments() -> None:
    first = segment([("今日", 0, 0.4), ("は。", 0.4, 0.8)])
    said = transcript(first, segment([("雨", 1.0, 1.4), ("です。", 1.4, 1.8)], 1), language="ja")
    assert write_txt(speech_of(said)) == "今日は。雨です。\n"


def test_japanese_without_punctuation_has_a_line_for_each_segment() -> None:
    first = segment([("今日", 0, 0.4), ("は", 0.4, 0.8)])
    second = segment([("雨", 0.8, 1.2), ("です", 1.2, 1.6)], 1)
    said = transcript(first, second, segment([("はい", 5.0, 5.4)], 2), language="ja")
    assert write_txt(speech_of(said)) == "今日は\n雨です\n\nはい\n"


def test_segments_that_lost_their_space_do_not_run_together() -> None:
    said = transcript(segment([("It", 0, 0.4), (" rains", 0.4, 0.8)]), segment([("today", 1.0, 1.4)], 1))
    assert write_txt(speech_of(said)) == "It rains today\n"
