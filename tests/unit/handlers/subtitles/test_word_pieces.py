import pytest

from handlers.subtitles.words import speech_of
from support.transcripts import segment, transcript


def words_of(pieces):
    timed = [(piece, i * 0.5, i * 0.5 + 0.4) for i, piece in enumerate(pieces)]
    return speech_of(transcript(segment(timed))).words


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([" sold", " $12", ",500", " of"], ["sold", "$12,500", "of"]),
        ([" $1", ",250", ".50"], ["$1,250.50"]),
        ([" US$", " 12"], ["US$ 12"]),
        ([" R", "$", " 1", ".250", ",50"], ["R$ 1.250,50"]),
        ([" a", " well", "-known", " start", "-up", "."], ["a", "well-known", "start-up."]),
        ([" 45", " %", " more"], ["45 %", "more"]),
        ([" 45", "%", "."], ["45%."]),
        ([" 20", " €", " !"], ["20 € !"]),
        ([" I", " don", "'t", " know"], ["I", "don't", "know"]),
        ([" l", "'", "eau"], ["l'eau"]),
        ([" 10", ":", "30"], ["10:30"]),
        ([" «", " Bonjour", " »", " dit"], ["« Bonjour »", "dit"]),
        ([" ¿", "Cómo", " estás", "?"], ["¿Cómo", "estás?"]),
        ([" 안", "녕하세요", " 여러분"], ["안녕하세요", "여러분"]),
        ([" مر", "حبا", " بكم"], ["مرحبا", "بكم"]),
        (["コン", "ピュータ", "を", "「", "使", "」", "。"], ["コンピュータ", "を", "「使」。"]),
        (["12", ",500", "円"], ["12,500", "円"]),
        ([" one", " two"], ["one", "two"]),
        ([" $", " is", " a", " sign"], ["$", "is", "a", "sign"]),
    ],
)
def test_pieces_of_a_word_are_joined_and_words_are_not(pieces, words):
    found = words_of(pieces)
    assert [word.text.strip() for word in found] == words
    assert "".join(word.text for word in found) == "".join(pieces)


def test_a_joined_word_has_the_time_of_what_is_spoken_and_the_least_probability():
    (word,) = words_of([" 45", " %", "."])
    assert (word.start_ms, word.end_ms) == (0, 900)


def test_text_that_lost_its_spaces_does_not_become_one_word():
    assert max(len(word.text) for word in words_of(["abcdefghij"] * 100)) <= 80
