"""Transcripts to write subtitles from: a plain one, and every one that hypothesis can think of."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from gpu_dispatch.transcript import Segment, Transcript, Word

SPECIAL = (
    "{\\b1}",
    "\\N",
    "C:\\New",
    "-->",
    "<i>",
    "&amp;",
    "[00:03.00]",
    "a\n\nb",
    "日本語。",
    "שלום",
    "ไทย",
    "e\u0301",
    "👩‍👩‍👧",
    "\u200b",
    "مرحبا",
    "\u202eright\u202c",
    "😀{\\k50}",
    "{y:i}",
    "a\r\nb",
    "a\u2028b",
    "\ufeff",
    "\0\x1b[0m",
    "\uffff",
    "\ud83dx",
)
"""What some format, reader or player takes for something else than text."""


def transcript(*segments: Segment, language: str = "en", duration: float = 60.0) -> Transcript:
    return Transcript(language, 0.9, duration, segments, model="base", engine="faster-whisper", device="cpu")


def segment(words: Sequence[tuple[str, float, float]], number: int = 0) -> Segment:
    timed = tuple(Word(text, start, end, 0.9) for text, start, end in words)
    return Segment(number, words[0][1], words[-1][2], "".join(text for text, _, _ in words), timed)


def spoken(text: str, start: float = 0.0, each: float = 0.3, gap: float = 0.1) -> Segment:
    """`text` said evenly: a word every `each` + `gap` seconds."""
    words = text.split()
    step = each + gap
    return segment([(" " + word, start + i * step, start + i * step + each) for i, word in enumerate(words)])


_text = st.one_of(
    st.sampled_from(SPECIAL), st.text(max_size=12), st.text("abc .,?!", max_size=8), st.text("x", max_size=120)
)
_any_time = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(-1, 100), st.integers(0, 20).map(float))
_words = st.builds(
    Word,
    text=st.builds(lambda lead, text: lead + text, st.sampled_from(("", " ")), _text),
    start=_any_time,
    end=_any_time,
    probability=st.floats(),
)
_segments = st.builds(
    Segment,
    id=st.integers(0, 99),
    start=_any_time,
    end=_any_time,
    text=st.lists(_text, max_size=12).map(" ".join),
    words=st.lists(_words, max_size=12).map(tuple),
    avg_logprob=st.floats(),
)
wild_transcripts = st.builds(lambda segments: transcript(*segments), st.lists(_segments, max_size=6))
"""Word and segment times of any kind: NaN, infinite, negative, backwards."""


@st.composite
def _steady(draw: st.DrawFn) -> Transcript:
    """Times as a recogniser gives them: forwards, with pauses, on a grid of 20 ms."""
    clock, segments = 0, []
    for number in range(draw(st.integers(1, 4))):
        words: list[tuple[str, float, float]] = []
        for text in draw(st.lists(_text.filter(str.strip), min_size=1, max_size=25)):
            start = clock + draw(st.integers(0, 60))
            clock = start + draw(st.integers(1, 40))
            words.append((" " + text, start / 50, clock / 50))
        segments.append(segment(words, number))
    return transcript(*segments)


steady_transcripts = _steady()
