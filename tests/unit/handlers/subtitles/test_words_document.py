"""words.json of a long recording: written as any JSON writer would write it, without what that takes."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from gpu_dispatch.transcript import Segment, Transcript, Word
from handlers.subtitles.words import speech_of
from handlers.subtitles.wordsjson import write_words_json

MOST = 5
"""Times its own size that may be taken while a document is written. As a tree, 800,000 words took eleven times."""


def transcript(*segments: Segment) -> Transcript:
    return Transcript("pt", 1.0, 30.0, segments, "base", "faster-whisper", "cpu")


def talk(words: int) -> Segment:
    said = tuple(Word(f" word{i}", i / 3, i / 3 + 0.25, 0.9) for i in range(words))
    return Segment(0, 0.0, words / 3, "".join(word.text for word in said), said)


@pytest.mark.parametrize(
    "segments",
    [
        (),
        (Segment(0, 0.0, 1.0, ' "said"\n\\ \u2028 ação ☃'),),
        (talk(3), Segment(1, 1.0, 2.0, " and so on", avg_logprob=float("nan"))),
        (Segment(0, 0.0, 1.0, " a\tb", (Word(' "a"\n', 0.0, 0.4), Word(" b", 0.5, 1.0))),),
    ],
)
def test_it_is_what_the_writer_of_the_library_makes_of_it(segments: tuple[Segment, ...]) -> None:
    said = transcript(*segments)
    document = write_words_json(said, speech_of(said), language="pt")
    assert document == json.dumps(json.loads(document), ensure_ascii=False, indent=1) + "\n"


def test_writing_it_takes_little_more_than_the_document() -> None:
    said = transcript(talk(20_000))
    speech = speech_of(said)
    tracemalloc.start()
    document = write_words_json(said, speech, language="pt")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(json.loads(document)["words"]) == 20_000 and peak < MOST * len(document)
