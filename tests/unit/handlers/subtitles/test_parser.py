import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.subtitles.burn_in import write_ass
from handlers.subtitles.cues import make_cues
from handlers.subtitles.parser import parse_subtitles
from handlers.subtitles.raw_cues import MAX_CUE_CHARACTERS, MAX_CUES
from handlers.subtitles.srt import write_srt
from handlers.subtitles.vtt import write_vtt
from handlers.subtitles.words import speech_of
from manifests.errors import SubtitlesUnreadable
from manifests.options import CaptionStyle
from support.transcripts import SPECIAL, spoken, transcript, wild_transcripts

SRT = "1\n00:00:01,000 --> 00:00:02,500\nHello\n\n2\n00:00:03,000 --> 00:00:04,000\nyou\nthere\n"
HELLO = [("Hello", 1000, 2500), ("you\nthere", 3000, 4000)]


def shown(data):
    data = data if isinstance(data, bytes) else data.encode()
    return [(c.text, c.start_ms, c.end_ms) for c in parse_subtitles(data).cues]


@pytest.mark.parametrize(
    "document",
    [
        SRT,
        SRT.replace("\n", "\r\n"),
        SRT.replace("\n", "\r"),
        SRT.replace(",", "."),
        SRT.replace("\n", "  \n"),
        SRT.replace("1\n00", "00").replace("2\n00", "00"),
        SRT.replace("\n", "\n\n"),
        SRT.replace("\n\n2\n", "\n2\n"),
        "\ufeff" + SRT,
        "\n\n" + SRT.rstrip(),
        SRT.replace("Hello", "<i>Hello</i>").replace("there", '<font color="red">there</font>'),
        SRT.replace("Hello", "{\\an8}Hello"),
        SRT.replace("02,500", "02,500 X1:0 X2:100"),
        SRT.replace("00:00:01,000", "00:01,0"),
        "WEBVTT - title\n\nNOTE a\nb\n\nSTYLE\n::cue{}\n\nid\n00:01.000 --> 00:02.500 align:start\n<v Ann>Hello</v>\n\n"
        "00:00:03.000 --> 00:00:04.000\nyou\n<c.red>there</c>\n",
        "[Script Info]\n\n[Events]\nFormat: Start, End, Text\nComment: 0:00:00.00,0:00:01.00,no\n"
        "Dialogue: 0:00:03.00,0:00:04.00,you\\Nthere\nDialogue: 0:00:01.00,0:00:02.50,{\\b1}Hel{\\i1}lo\n",
    ],
)
def test_tolerated_spellings(document):
    assert shown(document) == HELLO


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1"])
def test_encodings(encoding):
    document = SRT.replace("Hello", "Olá, você não é só")
    assert shown(document.encode(encoding))[0][0] == "Olá, você não é só"


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ("", 1),
        ("no subtitles at all\n", 1),
        ("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 3),
        ("1\n00:00:01,000 --> later\nHello\n", 2),
        ("1\n00:00:01,000 --> 00:00:02,000\n\n", 2),
        ("WEBVTT\n", 1),
        ("[Events]\nDialogue: 0,soon,later,Default,,0,0,0,,Hi\n", 2),
        ('{"words": [', 1),
        ('{"words": []}', 1),
        ("[" * 100_000, 1),
        ('{"words": [{"word": "a", "start": 1' + "0" * 5000 + "}]}", 1),
    ],
)
def test_what_is_no_subtitle_is_refused_with_its_line(document, line):
    with pytest.raises(SubtitlesUnreadable) as caught:
        parse_subtitles(document.encode())
    assert caught.value.info.where == f"line {line}"
    assert "expected" in caught.value.info.message and caught.value.info.hint


_ONE = "00:01,0 --> 00:02,0\n"
_EVENT = "[Events]\nDialogue: 0,0:00:01.00,0:00:02.00,D,,0,0,0,,"


@pytest.mark.parametrize("piece", ["<i ", "{\\", "{", "<a", "<00:00:01.000>", "\n", " ", "0:", _ONE, "\\k1", "{\\k1"])
@pytest.mark.parametrize("start", ["", _ONE, "WEBVTT\n\n00:01.0 --> 00:02.0\n", _EVENT])
def test_hostile_repetition_is_refused_in_linear_time(start, piece):
    """Reading that is quadratic in the length hangs here."""
    if start == _EVENT and piece == _ONE:
        piece = "Dialogue: 0,,"
    with pytest.raises(SubtitlesUnreadable):
        parse_subtitles((start + piece * 300_000).encode())


def test_limits():
    many = "".join(
        f"00:{i // 60 % 60:02d}:{i % 60:02d},{i // 3600:03d} --> 00:59:59,999\nx{i}\n\n" for i in range(MAX_CUES + 1)
    )
    with pytest.raises(SubtitlesUnreadable, match="more than"):
        parse_subtitles(many.encode())
    with pytest.raises(SubtitlesUnreadable, match="longer than"):
        parse_subtitles(f"00:01,000 --> 00:02,000\n{'x' * (MAX_CUE_CHARACTERS + 1)}\n".encode())


def test_overlaps_are_clipped_and_what_starts_together_is_one_cue():
    document = "00:01,0 --> 00:05,0\nA\n\n00:03,0 --> 00:04,0\nB\n\n00:03,0 --> 00:06,0\nC\n\n00:07,0 --> 00:07,0\nD\n"
    assert shown(document) == [("A", 1000, 3000), ("B\nC", 3000, 6000), ("D", 7000, 8000)]


def test_numbers_that_are_text_stay():
    assert [t for t, *_ in shown("1\n00:01,0 --> 00:02,0\n42\n\n2\n00:03,0 --> 00:04,0\n7\n")] == ["42", "7"]


def test_word_times_of_vtt_and_karaoke_are_kept():
    vtt = "WEBVTT\n\n00:01.000 --> 00:04.000\nAnd <00:00:02.000>so <00:00:03.000>on\n"
    ass = "[Events]\nDialogue: 0,0:00:01.00,0:00:04.00,D,,0,0,0,,{\\k100}And {\\kf100}so {\\k50}{\\k50}on\n"
    for document, last in ((vtt, 3000), (ass, 3500)):
        found = parse_subtitles(document.encode())
        assert found.timed
        assert [(w.text, w.start_ms) for w in found.cues[0].words] == [("And", 1000), (" so", 2000), (" on", last)]


def test_without_word_times_the_cue_is_spread_over_its_words():
    found = parse_subtitles(b"1\n00:00:00,000 --> 00:00:04,000\nabcd\nab ab\n")
    assert [(w.text, w.start_ms, w.end_ms) for w in found.cues[0].words] == [
        ("abcd", 0, 2000),
        (" ab", 2000, 3000),
        (" ab", 3000, 4000),
    ]
    assert not found.timed


@pytest.mark.parametrize("style", ["plain", "fill", "pop", "box"])
def test_our_own_ass_reads_back(style):
    cues = make_cues(speech_of(transcript(*(spoken(f"Say {t} now.", i * 3.0) for i, t in enumerate(SPECIAL)))))
    again = parse_subtitles(write_ass(cues, CaptionStyle(style=style), 1920, 1080).encode()).cues
    assert [c.text for c in again] == [c.text for c in cues]
    assert [c.start_ms // 10 for c in again] == [(c.start_ms + 5) // 10 for c in cues]
    if style == "fill":
        for old, new in zip(cues, again, strict=True):
            assert {(w.start_ms + 5) // 10 for w in old.words} <= {w.start_ms // 10 for w in new.words}


@given(wild_transcripts)
def test_srt_and_vtt_round_trips(given_):
    cues = make_cues(speech_of(given_))
    unlike = [c for i, c in enumerate(cues) if not i or (c.text != cues[i - 1].text)]
    for write in (write_srt, write_vtt):
        if cues:
            again = parse_subtitles(write(cues).encode()).cues
            if len(unlike) == len(cues):
                assert [(c.text, c.start_ms, c.end_ms) for c in again] == [(c.text, c.start_ms, c.end_ms) for c in cues]


_PIECES = r"""WEBVTT|1|00:00:01,000 --> 00:00:02,000|00:01.5-->00:01|<00:00:01.500>|&#0;|&amp;|<i>|{\k5}|[Script Info]|
[Events]|Format: Start, End, Text|Dialogue: 0,0:00:01.00,0:00:02.00,D,,0,0,0,,|\N|{\p1}|hi|{"words":
|[|{|"word"|:|1e999|]|}"""
_bits = st.sampled_from([*_PIECES.replace("\n", "").split("|"), "\n", "\n\n", "\r", "\x85", "\u2060", "é", "NaN"])
_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["words", "word", "text", "start", "end", "segments", "language", "duration"]), inner
        )
    ),
)


@settings(max_examples=300)
@given(
    st.one_of(
        st.binary(),
        st.lists(_bits, max_size=30).map(lambda bits: "".join(bits).encode()),
        st.lists(_bits, max_size=20).map(lambda bits: "".join(bits).encode("utf-16")),
        _json.map(lambda data: json.dumps(data).encode()),
    )
)
def test_nothing_but_its_own_error_comes_out_and_what_is_read_can_be_drawn(data):
    try:
        found = parse_subtitles(data)
    except SubtitlesUnreadable:
        return
    assert found.cues
    clock = 0
    for cue in found.cues:
        assert clock <= cue.start_ms < cue.end_ms and all(line.text.strip() and line.words for line in cue.lines)
        clock = cue.end_ms
    for style in ("plain", "fill", "pop", "box"):
        write_ass(found.cues, CaptionStyle(style=style), 1080, 1920).encode()


@pytest.mark.parametrize(
    "said", ["Dialogue: 0", "[Events]", "dialogue: she said no", "[Script Info]", "WEBVTT", "{", "["]
)
def test_the_text_of_srt_does_not_make_it_another_format(said):
    document = f"1\n00:00:01,000 --> 00:00:02,000\n{said}\n\n2\n00:00:03,000 --> 00:00:04,000\nyes\n"
    assert [cue.text for cue in parse_subtitles(document.encode()).cues] == [said, "yes"]
