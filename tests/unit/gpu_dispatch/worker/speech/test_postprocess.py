"""Loops are cut, and times only go forward."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.transcript import Segment, Word
from gpu_dispatch.worker.speech.postprocess import postprocess
from gpu_dispatch.worker.speech.repeats import Repeat


def said(text: str, start: float = 0.0, *, worded: bool = True) -> Segment:
    """`text` at four words a second."""
    parts = [f" {word}" for word in text.split()]
    words = tuple(Word(part, start + i / 4, start + (i + 1) / 4) for i, part in enumerate(parts))
    return Segment(7, start, start + len(parts) / 4, "".join(parts), words if worded else ())


LOOP = "we went to the market and then " + "I do not know what to say " * 20
TALK = "very very good and no no no that is what she said to me on the way to the market yesterday evening"


@pytest.mark.parametrize("worded", [True, False])
def test_a_loop_in_a_segment_is_said_once(worded: bool) -> None:
    (segment,) = postprocess([said(LOOP, worded=worded)], 100.0, repetition=2.4).segments
    assert segment.text.split().count("know") == 1
    assert segment.text.startswith(" we went to the market and then I do not know")
    if worded:
        assert "".join(w.text for w in segment.words) == segment.text
        assert segment.end == segment.words[-1].end


def test_a_loop_over_segments_is_said_once() -> None:
    segments = [said("so long", 0.0), *(said("Thank you for watching!", 2.0 + i) for i in range(12)), said("bye", 20.0)]
    assert [s.text for s in postprocess(segments, 30.0, repetition=2.4).segments] == [
        " so long",
        " Thank you for watching!",
        " bye",
    ]


@pytest.mark.parametrize("worded", [True, False])
def test_what_the_sound_bears_out_stays_and_the_rest_is_told(worded: bool) -> None:
    """The first three of twenty are really said."""

    def bears_out(repeats: Sequence[Repeat]) -> list[bool]:
        return [i < 3 for i in range(len(repeats))]

    cleaned = postprocess([said(LOOP, worded=worded)], 100.0, repetition=2.4, bears_out=bears_out)
    assert cleaned.segments[0].text.split().count("know") == 3
    (loop,) = cleaned.loops
    assert (loop.times, loop.start) == (17, pytest.approx(1.75, abs=0.5))
    lines = [said("Thank you for watching!", 2.0 + 2 * i, worded=worded) for i in range(20)]
    cleaned = postprocess(lines, 100.0, repetition=2.4, bears_out=bears_out)
    assert [s.start for s in cleaned.segments] == [2.0, 4.0, 6.0]
    assert [(c.text, c.start, c.times) for c in cleaned.loops] == [("Thank you for watching!", 2.0, 17)]


def test_ordinary_repetition_stays() -> None:
    talk = [said(TALK), *(said("Thank you.", 10.0 + i) for i in range(3))]
    assert [s.text for s in postprocess(talk, 20.0, repetition=2.4).segments] == [s.text for s in talk]


def test_without_a_threshold_nothing_is_cut() -> None:
    (segment,) = postprocess([said(LOOP)], 100.0, repetition=None).segments
    assert segment.text == said(LOOP).text


times = st.floats(-5.0, 40.0, allow_nan=False)
words = st.builds(Word, st.sampled_from([" one", " two", "!"]), times, times, st.floats(-0.1, 1.1))
segments = st.builds(
    Segment, st.just(0), times, times, st.sampled_from([" one two", " ", ""]), st.lists(words, max_size=4).map(tuple)
)


@given(st.lists(segments, max_size=6), st.floats(0.1, 30.0).map(lambda s: round(s, 3)))
def test_times_only_go_forward_whatever_the_model_says(given_segments: list[Segment], duration: float) -> None:
    result = postprocess(given_segments, duration, repetition=2.4).segments
    for items in (result, [w for s in result for w in s.words]):
        assert all(0.0 <= item.start <= item.end <= duration for item in items)
        assert all(earlier.end <= later.start for earlier, later in pairwise(items))
    assert all(s.start <= w.start and w.end <= s.end for s in result for w in s.words)
    assert all(0.0 <= w.probability <= 1.0 for s in result for w in s.words)
    assert [s.id for s in result] == list(range(len(result)))
    assert all(s.text.strip() for s in result)
