"""Timestamp tokens cut a window's text into segments."""

from __future__ import annotations

import pytest

from gpu_dispatch.transcript import Word
from gpu_dispatch.worker.speech.token_segments import TimedTokens, WindowText, segments_of, stretches_of
from manifests.options import RecognitionOptions

T0 = 1000
"""The token of 0 s; each further one is 20 ms later."""


def at(seconds: float) -> int:
    return T0 + round(seconds / 0.02)


@pytest.mark.parametrize(
    ("tokens", "found", "heard_s"),
    [
        ([at(0), 1, 2, at(3), at(4), 3, at(8)], [(0, 3, (1, 2)), (4, 8, (3,))], 10.0),
        ([at(0), 1, at(3), at(4), 3], [(0, 3, (1,))], 3.0),
        ([at(0), 1, at(3), at(3)], [(0, 3, (1,))], 3.0),
        ([at(0), 1, 2, at(7)], [(0, 7, (1, 2))], 10.0),
        ([at(0), 1, 2], [(0, 10, (1, 2))], 10.0),
        ([1, 2], [(0, 10, (1, 2))], 10.0),
        ([at(0)], [], 10.0),
        ([], [], 10.0),
        ([at(0), 1, at(29.0)], [(0, 10, (1,))], 10.0),
    ],
)
def test_text_between_timestamps_is_a_stretch(
    tokens: list[int], found: list[tuple[float, float, tuple[int, ...]]], heard_s: float
) -> None:
    cut = stretches_of(tokens, first_timestamp=T0, window_s=10.0)
    assert cut.found == tuple(TimedTokens(start, end, text) for start, end, text in found)
    assert cut.heard_s == pytest.approx(heard_s)


def test_words_go_to_the_segment_of_their_tokens() -> None:
    text = WindowText((), "a b c", 0.0, -0.1, 0.0)
    words = [(Word(" a", 0.0, 1.0), 1), (Word(" b", 1.0, 2.0), 2), (Word(" c", 3.0, 4.0), 1)]
    stretches = (TimedTokens(0.0, 2.0, (1, 2, 3)), TimedTokens(3.0, 4.0, (4,)), TimedTokens(5.0, 6.0, (5,)))
    found = segments_of(stretches, words, text, offset_s=10.0, decode=lambda tokens: "" if tokens == (5,) else " x")
    assert [[word.text for word in segment.words] for segment in found] == [[" a", " b"], [" c"]]
    assert [(segment.start, segment.end) for segment in found] == [(10.0, 12.0), (13.0, 14.0)]


@pytest.mark.parametrize(
    ("text", "logprob", "silence", "good", "silent"),
    [
        ("Plain words.", -0.2, 0.9, True, False),
        ("Plain words.", -1.5, 0.9, True, True),
        ("Plain words.", -1.5, 0.1, False, False),
        ("again and " * 40, -0.1, 0.1, False, False),
    ],
)
def test_thresholds_tell_what_is_tried_again(
    text: str, logprob: float, silence: float, good: bool, silent: bool
) -> None:
    written = WindowText((), text, 0.0, logprob, silence)
    assert (written.is_good(RecognitionOptions()), written.is_silence(RecognitionOptions())) == (good, silent)
    off = RecognitionOptions(compression_ratio_threshold=None, logprob_threshold=None, no_speech_threshold=None)
    assert (written.is_good(off), written.is_silence(off)) == (True, False)
