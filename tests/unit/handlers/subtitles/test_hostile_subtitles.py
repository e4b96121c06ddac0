"""Documents made to cost much: read or refused in a time that grows as they do, and never with another error."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_dispatch.task import CaptionParams
from handlers import caption
from handlers.subtitles.cues import CueLimits, pack, wrap
from handlers.subtitles.model import TimedWord
from handlers.subtitles.parser import parse_subtitles
from handlers.subtitles.raw_cues import MAX_CUE_CHARACTERS, MAX_WORDS
from manifests.errors import SubtitlesUnreadable
from support.hostile_documents import SUBTITLES
from support.reader_program import planned

LIMIT_S = 30.0
"""For what takes a second at most."""

SHAPES = [(form, shape) for form, shapes in SUBTITLES.items() for shape in shapes]
GROWN = [("srt", "cues full of words"), ("srt", "cues of ideographs"), ("ass", "one syllable in pieces")]


def cpu_s(form: str, shape: str, size: int, style: str) -> float:
    data = SUBTITLES[form][shape](size)
    began = time.process_time()
    with suppress(SubtitlesUnreadable):
        planned(data, style)
    return time.process_time() - began


@pytest.mark.parametrize(("form", "shape"), SHAPES)
def test_a_megabyte_of_anything_are_soon_dealt_with(form: str, shape: str) -> None:
    """benchmarks/readers.py tells of ten. Before there were limits, some of these took minutes."""
    assert cpu_s(form, shape, 1_000_000, "plain") < LIMIT_S


@pytest.mark.parametrize("style", ["plain", "pop"])
@pytest.mark.parametrize(("form", "shape"), GROWN)
def test_four_times_the_text_takes_about_four_times_as_long(form: str, shape: str, style: str) -> None:
    small = max(0.03, min(cpu_s(form, shape, 25_000, style) for _ in range(2)))
    assert cpu_s(form, shape, 100_000, style) < 12 * small


def test_captions_that_repeat_their_words_too_often_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    document = SUBTITLES["srt"]["cues full of words"](20_000)
    shown = planned(document, "pop").tasks[0].params
    assert isinstance(shown, CaptionParams)
    largest = max(len(layout.ass) for layout in shown.layouts)
    assert largest > 5 * len(document)
    monkeypatch.setattr(caption, "MAX_LAYOUT_CHARACTERS", largest // 2)
    with pytest.raises(SubtitlesUnreadable, match="in the style pop"):
        planned(document, "pop")


@given(
    st.lists(st.tuples(st.sampled_from(["a", "bcd", "字", "e\u0301", "f" * 9]), st.booleans()), max_size=60), st.data()
)
def test_groups_of_words_are_as_large_as_they_fit(drawn: list[tuple[str, bool]], data: st.DataObject) -> None:
    words = [TimedWord(" " * spaced + text, 100 * i, 100 * i + 100) for i, (text, spaced) in enumerate(drawn)]
    room = CueLimits(cells=data.draw(st.integers(4, 20)), lines=data.draw(st.integers(1, 2)))
    groups = pack(words, room)
    assert [word for group in groups for word in group] == words
    assert all(wrap(group, room) is not None for group in groups)
    least, begin = 0, 0
    while begin < len(words):
        end = begin + 1
        while (
            end < len(words)
            and wrap(words[begin : end + 1], room) is not None
            and end - begin < room.cells * room.lines
        ):
            end += 1
        least, begin = least + 1, end
    assert len(groups) == least


_PIECES = (
    *("WEBVTT\n\n", "00:01.000 --> 00:02.000\n", "00:00:01,000 --> 9999:999:99.999999999\n", "[Events]\n"),
    *("Format: Text, Start", "Dialogue: 0,0:00:01.00,0:00:02.00,D,,0,0,0,,", "{\\k9999999}", "{\\p1}", "\\N", "{"),
    *("&#" + "9" * 5000 + ";", "&#x110000;", "&#55296;", "&#0;", "<00:00:01.000>", "<", "\ud800", "\0", "\u2060"),
    *('{"words":[', '{"word":"a","start":1e400,"end":-1e400}', "]}", "NaN", "Infinity", "1" * 5000, "a", "\n"),
)
_TEXTS = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from(_PIECES), max_size=12).map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass")),
)


@settings(max_examples=300)
@given(_TEXTS, st.sampled_from(["plain", "fill", "pop", "box"]))
def test_whatever_the_bytes_subtitles_are_planned_or_refused(data: bytes, style: str) -> None:
    try:
        planned(data, style)
    except SubtitlesUnreadable as e:
        assert e.info.hint


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 8, "x" + "f" * 5000])
def test_a_reference_to_a_character_that_is_none_shows_as_an_unknown_one(number: str) -> None:
    found = parse_subtitles(f"WEBVTT\n\n00:01.000 --> 00:02.000\na&#{number};b\n".encode())
    assert found.cues[0].text == "a\ufffdb"


def test_zeros_before_a_number_change_nothing() -> None:
    found = parse_subtitles(f"WEBVTT\n\n00:01.000 --> 00:02.000\n&#{'0' * 5000}65;\n".encode())
    assert found.cues[0].text == "A"


def test_words_and_the_text_of_a_cue_are_limited() -> None:
    cue = " a" * (MAX_CUE_CHARACTERS // 2)
    many = "".join(
        f"{i // 60:02d}:{i % 60:02d},0 --> {i // 60:02d}:{i % 60:02d},9\n{i}{cue[:1990]}\n\n" for i in range(310)
    )
    with pytest.raises(SubtitlesUnreadable, match=f"more than {MAX_WORDS} words"):
        parse_subtitles(many.encode())
    with pytest.raises(SubtitlesUnreadable, match="a cue is longer than"):
        parse_subtitles(f"00:01,000 --> 00:02,000\n{'<i>' * 100_000}a\n".encode())
