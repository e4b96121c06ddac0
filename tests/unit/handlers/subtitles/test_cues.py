from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.transcript import Segment
from handlers.subtitles.cue_times import EARLY_MS, LATE_MS, LEAST_MS
from handlers.subtitles.cues import STRETCH, make_cues
from handlers.subtitles.limits import BROADCAST, CueLimits
from handlers.subtitles.text import cells, visible
from handlers.subtitles.words import speech_of
from manifests.options import SUBTITLE_PRESETS
from support.transcripts import segment, spoken, steady_transcripts, transcript, wild_transcripts

SOCIAL, VERBATIM = (CueLimits.of(SUBTITLE_PRESETS[name]) for name in ("social", "verbatim"))
any_limits = st.one_of(
    st.sampled_from((BROADCAST, SOCIAL, VERBATIM)),
    st.builds(
        CueLimits,
        cells=st.integers(8, 60),
        lines=st.integers(1, 3),
        words=st.none() | st.integers(1, 9),
        shortest_ms=st.integers(0, 1000),
        longest_ms=st.integers(1000, 9000),
        gap_ms=st.integers(0, 200),
        lag_ms=st.integers(0, 800),
    ),
)


def squeezed(text):
    return "".join(text.split())


def check_rules(cues, limits=BROADCAST):
    for cue in cues:
        assert 1 <= len(cue.lines) <= limits.lines
        assert all(visible(line.text) and "\n" not in line.text for line in cue.lines)
        assert all(cells(line.text) <= limits.cells for line in cue.lines)
        assert all("".join(w.text for w in line.words).strip() == line.text for line in cue.lines)
        assert limits.words is None or len(cue.words) <= limits.words
        assert 0 < cue.end_ms - cue.start_ms <= limits.longest_ms
    for before, after in pairwise(cues):
        assert before.end_ms <= after.start_ms
        if after.start_ms - before.start_ms >= LEAST_MS + limits.gap_ms:
            assert after.start_ms - before.end_ms >= limits.gap_ms


@given(wild_transcripts, any_limits)
def test_no_rule_is_ever_broken_and_no_word_lost(given_, limits):
    speech = speech_of(given_)
    cues = make_cues(speech, limits)
    check_rules(cues, limits)
    assert squeezed("".join(c.text for c in cues)) == squeezed("".join(w.text for w in speech.words))


@given(steady_transcripts, any_limits)
def test_cues_start_with_their_first_word_and_do_not_outstay_their_last(given_, limits):
    cues = make_cues(speech_of(given_), limits)
    check_rules(cues, limits)
    for cue in cues:
        assert cue.start_ms == cue.words[0].start_ms
        assert cue.end_ms <= max(cue.words[-1].end_ms + limits.lag_ms, cue.start_ms + limits.shortest_ms, 1)


@given(steady_transcripts, st.lists(st.integers(0, 100_000), max_size=20).map(sorted))
def test_cuts_of_the_picture_move_cues_a_little_and_break_no_rule(given_, cuts):
    speech = speech_of(given_)
    cues = make_cues(speech, cuts_ms=cuts)
    check_rules(cues)
    assert squeezed("".join(c.text for c in cues)) == squeezed("".join(w.text for w in speech.words))
    for cue in cues:
        assert -EARLY_MS <= cue.start_ms - cue.words[0].start_ms <= LATE_MS


@given(steady_transcripts)
def test_how_words_were_grouped_into_segments_changes_nothing(given_):
    speech = speech_of(given_)
    lengths = [(c.start_ms, c.end_ms, c.text) for c in make_cues(speech)]
    again = make_cues(replace(speech, segments=(speech.words,) if speech.words else ()))
    assert [(c.start_ms, c.end_ms, c.text) for c in again] == lengths


def test_a_segment_that_ends_on_the_next_sentence_s_first_word_ends_no_cue():
    cues = make_cues(
        speech_of(
            transcript(
                segment([(" We", 0.0, 0.3), (" came", 0.3, 0.7), (" home.", 0.7, 1.4), (" They", 1.5, 1.7)]),
                segment([(" stayed", 1.7, 2.1), (" in", 2.1, 2.3), (" the", 2.3, 2.4), (" garden.", 2.4, 3.1)]),
            )
        )
    )
    assert [c.text for c in cues] == ["We came home.", "They stayed in the garden."]


@pytest.mark.parametrize("count", range(8, 40))
def test_no_word_is_left_alone(count):
    cues = make_cues(speech_of(transcript(spoken(" ".join(["apple"] * count), each=0.2, gap=0.05))))
    assert all(len(line.words) > 1 for cue in cues for line in cue.lines)


def test_hours_without_a_pause_are_cut_as_well_as_a_minute():
    sentence = "When the paint had come off we could see that the wood below it was still sound."
    said = transcript(spoken(" ".join([sentence] * 300), each=0.3, gap=0.02), duration=2000.0)
    cues = make_cues(speech_of(said))
    check_rules(cues)
    assert len(said.words) > 2 * STRETCH
    assert {cue.text.replace("\n", " ") for cue in cues} == {sentence}


def test_a_pause_ends_a_cue_and_a_short_cue_is_kept_long_enough_to_see():
    cues = make_cues(speech_of(transcript(segment([(" Yes", 1, 1.1), (" and", 5, 5.1)]))))
    assert [(c.text, c.start_ms) for c in cues] == [("Yes", 1000), ("and", 5000)]
    assert all(c.end_ms - c.start_ms >= BROADCAST.shortest_ms for c in cues)


def test_text_stays_half_a_second_after_its_last_word_where_there_is_room():
    cues = make_cues(speech_of(transcript(spoken("We came home late.", 1.0), spoken("Then we slept well.", 6.0))))
    assert [c.end_ms for c in cues] == [c.words[-1].end_ms + 500 for c in cues]


def test_without_word_times_segments_still_make_correct_cues():
    text = "This is a rather long segment whose words nobody has timed, so that its time is spread over all of them."
    cues = make_cues(speech_of(transcript(Segment(0, 0.0, 9.0, text), Segment(1, 9.0, 10.0, "End."))))
    check_rules(cues)
    assert " ".join(c.text for c in cues).split() == f"{text} End.".split()


@pytest.mark.parametrize("name", SUBTITLE_PRESETS)
def test_presets_hold_for_ordinary_speech(name):
    limits = CueLimits.of(SUBTITLE_PRESETS[name])
    said = spoken("We took the road along the river, because the bridge was closed, and nobody knew for how long.")
    cues = make_cues(speech_of(transcript(said)), limits)
    check_rules(cues, limits)
    assert all(cue.end_ms - cue.start_ms >= limits.shortest_ms for cue in cues)


def test_cues_begin_and_end_with_pictures_that_change_nearby():
    said = (spoken("We came home late.", 1.0), spoken("Then we slept well.", 4.0))
    cues = make_cues(speech_of(transcript(*said)), cuts_ms=[800, 3700])
    assert [c.start_ms for c in cues] == [800, 3700]
    late = make_cues(speech_of(transcript(*said)), cuts_ms=[2900])
    assert late[0].end_ms == 2900 - BROADCAST.gap_ms


def test_a_cue_ends_where_the_picture_changes_within_a_sentence():
    text = "When my brother and I first saw it the paint had come off"
    plain = make_cues(speech_of(transcript(spoken(text))))
    cut = 1000 * spoken(text).words[8].start
    cues = make_cues(speech_of(transcript(spoken(text))), cuts_ms=[round(cut)])
    assert len(plain) == 1
    assert [c.text for c in cues] == ["When my brother and I first saw it", "the paint had come off"]


def test_japanese_breaks_after_particles_and_punctuation():
    text = "昨日は友達と一緒に新しい映画を見に行きました。とても面白かったので、また来週も見に行きたいと思っています。"
    words = [(sign, i * 0.15, i * 0.15 + 0.15) for i, sign in enumerate(text)]
    cues = make_cues(speech_of(transcript(segment(words), language="ja")))
    check_rules(cues)
    assert [line.text for cue in cues for line in cue.lines] == [
        "昨日は友達と一緒に",
        "新しい映画を見に行きました。",
        "とても面白かったので、",
        "また来週も見に行きたいと思っています。",
    ]


def test_arabic_and_hebrew_keep_their_order_and_limits():
    text = "ذهبنا إلى السوق في الصباح الباكر، واشترينا الخبز والجبن والزيتون، ثم عدنا إلى البيت قبل الظهر."
    cues = make_cues(speech_of(transcript(spoken(text), language="ar")))
    check_rules(cues)
    assert " ".join(c.text for c in cues).split() == text.split()
    assert any(line.text.endswith("،") for cue in cues for line in cue.lines)
