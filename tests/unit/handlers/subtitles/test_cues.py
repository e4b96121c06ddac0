from itertools import pairwise

from hypothesis import given

from gpu_dispatch.task import Segment
from handlers.subtitles.cues import GAP_MS, LEAST_MS, LONGEST_MS, SHORTEST_MS, make_cues
from handlers.subtitles.text import cells, visible
from handlers.subtitles.words import speech_of
from support.transcripts import segment, spoken, steady_transcripts, transcript, wild_transcripts


def squeezed(text):
    return "".join(text.split())


def check_rules(cues):
    for cue in cues:
        assert 1 <= len(cue.lines) <= 2
        assert all(visible(line.text) and cells(line.text) <= 42 and "\n" not in line.text for line in cue.lines)
        assert all("".join(w.text for w in line.words).strip() == line.text for line in cue.lines)
        assert 0 < cue.end_ms - cue.start_ms <= LONGEST_MS
    for before, after in pairwise(cues):
        assert before.end_ms <= after.start_ms
        if after.start_ms - before.start_ms >= LEAST_MS + GAP_MS:
            assert after.start_ms - before.end_ms >= GAP_MS


@given(wild_transcripts)
def test_no_rule_is_ever_broken_and_no_word_lost(given_):
    speech = speech_of(given_)
    cues = make_cues(speech)
    check_rules(cues)
    assert squeezed("".join(c.text for c in cues)) == squeezed("".join(w.text for w in speech.words))


@given(steady_transcripts)
def test_cues_start_with_their_first_word(given_):
    cues = make_cues(speech_of(given_))
    check_rules(cues)
    assert all(cue.start_ms == cue.words[0].start_ms for cue in cues)


def test_cues_end_with_sentences_and_segments():
    cues = make_cues(
        speech_of(transcript(spoken("One two three four. Five six seven."), spoken("Eight nine ten", 4.0)))
    )
    assert [c.text for c in cues] == ["One two three four.", "Five six seven.", "Eight nine ten"]


def test_a_long_sentence_is_divided_evenly():
    cues = make_cues(speech_of(transcript(spoken(" ".join(["seven"] * 18), each=0.2, gap=0.05))))
    assert [len(c.text.split()) for c in cues] == [9, 9]


def test_a_pause_ends_a_cue_and_a_short_cue_is_kept_long_enough_to_see():
    cues = make_cues(speech_of(transcript(segment([(" Yes", 1, 1.1), (" and", 5, 5.1)]))))
    assert [(c.text, c.start_ms) for c in cues] == [("Yes", 1000), ("and", 5000)]
    assert all(c.end_ms - c.start_ms >= SHORTEST_MS for c in cues)


def test_without_word_times_segments_still_make_correct_cues():
    text = "This is a rather long segment whose words nobody has timed, so that its time is spread over all of them."
    cues = make_cues(speech_of(transcript(Segment(0, 0.0, 9.0, text), Segment(1, 9.0, 10.0, " End."))))
    check_rules(cues)
    assert " ".join(c.text for c in cues).split() == f"{text} End.".split()
    assert cues[-1].start_ms == 9000


def test_japanese_breaks_between_signs():
    text = "これは日本語の長い文章で、単語の間に空白がありません。だから文字の間で行を分けます。" * 2
    words = [(sign, i * 0.1, i * 0.1 + 0.1) for i, sign in enumerate(text)]
    cues = make_cues(speech_of(transcript(segment(words), language="ja")))
    check_rules(cues)
    assert "".join(c.text.replace("\n", "") for c in cues) == text
