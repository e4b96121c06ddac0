"""Which recordings are decoded in batches, which windows are doubtful, and what happens when memory runs out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from gpu_dispatch.transcript import Segment, Word
from gpu_dispatch.worker.speech.batches import batches_pay, doubt, read_in_batches
from gpu_dispatch.worker.speech.chunks import Chunk, Span
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE, WindowReading
from manifests.errors import WorkerCrashed
from manifests.options import RecognitionOptions

WINDOW_S = 12.0
USUAL = RecognitionOptions()


def said(text: str, times: Sequence[float]) -> Segment:
    """A segment of the words of `text`, which begin and end at `times`."""
    words = [Word(f" {w}", *span) for w, span in zip(text.split(), pairwise(times), strict=True)]
    return Segment(0, times[0], times[-1], "".join(w.text for w in words), tuple(words))


GOOD = WindowReading((said("the ferry left the harbour", [0.2, 2.0, 4.0, 6.0, 8.0, 10.0]),), -0.3, 1.2, 0.05)


def with_times(*times: float) -> WindowReading:
    return replace(GOOD, segments=(said("the ferry left", times),))


LOOP = said("no " * 40, [i * 0.25 for i in range(41)])
REPEATED = (said("thank you very much", [0.1, 0.5, 0.9, 1.4, 2.0]),) * 24


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        (GOOD, None),
        (replace(GOOD, compression_ratio=2.5), "repetition"),
        (replace(GOOD, avg_logprob=-1.1), "improbable"),
        (replace(GOOD, no_speech_prob=0.7), "silence"),
        (replace(GOOD, segments=()), "empty"),
        (replace(GOOD, segments=(LOOP,)), "loop"),
        (replace(GOOD, segments=REPEATED), "loop"),
        (with_times(0.2, 4.0, 8.0, 13.0), "times"),
        (with_times(0.2, 1.0, 2.0, 3.0), "times"),
        (with_times(6.0, 8.0, 9.0, 11.0), "times"),
        (with_times(0.2, 1.0, 8.0, 11.0), "times"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_window_is_doubtful_for_a_reason(reading: WindowReading, reason: str | None) -> None:
    assert doubt(reading, WINDOW_S, USUAL) == reason


@pytest.mark.parametrize(
    ("option", "reading"),
    [
        ("compression_ratio_threshold", replace(GOOD, compression_ratio=9.0)),
        ("logprob_threshold", replace(GOOD, avg_logprob=-9.0)),
        ("no_speech_threshold", replace(GOOD, no_speech_prob=1.0)),
    ],
)
def test_an_option_that_is_null_disables_its_test(option: str, reading: WindowReading) -> None:
    assert doubt(reading, WINDOW_S, USUAL) is not None
    assert doubt(reading, WINDOW_S, USUAL.model_copy(update={option: None})) is None


@pytest.mark.parametrize(
    ("options", "device", "speech_s", "pay"),
    [
        ({}, "cpu", 121.0, True),
        ({}, "cpu", 119.0, False),
        ({}, "cuda", 1.0, True),
        ({"strategy": "exact"}, "cuda", 3600.0, False),
        ({"condition_on_previous_text": True}, "cuda", 3600.0, False),
    ],
)
def test_batches_are_for_gpus_and_long_recordings(options: Any, device: Any, speech_s: float, pay: bool) -> None:
    assert batches_pay(RecognitionOptions(**options), device, speech_s) is pay


WINDOWS = tuple(Chunk((Span(i * 20 * SAMPLE_RATE, (i * 20 + 12) * SAMPLE_RATE),)) for i in range(7))
AGAIN = said("heard again alone", [1.0, 2.0, 3.0, 4.0])


class Engine:
    """Answers for windows by their number; takes at most `most` of them at once."""

    def __init__(self, most: int, doubtful: Sequence[int] = ()) -> None:
        self.most = most
        self.doubtful = doubtful
        self.tried: list[int] = []
        self.alone: list[int] = []

    def read_together(self, batch: Sequence[Chunk]) -> list[WindowReading]:
        self.tried.append(len(batch))
        if len(batch) > self.most:
            raise WorkerCrashed("out of memory")
        return [replace(GOOD, avg_logprob=-2.0) if WINDOWS.index(w) in self.doubtful else GOOD for w in batch]

    def read_alone(self, window: Chunk) -> list[Segment]:
        self.alone.append(WINDOWS.index(window))
        return [AGAIN]

    def read(self, size: int, options: RecognitionOptions = USUAL) -> Any:
        return read_in_batches(WINDOWS, size, options, together=self.read_together, alone=self.read_alone)


def test_doubtful_windows_are_decoded_again_in_their_place() -> None:
    engine = Engine(4, doubtful=(1, 5))
    found = engine.read(4)
    assert engine.tried == [4, 3]
    assert engine.alone == [1, 5]
    assert (found.windows, found.again) == (7, 2)
    starts = [20 * i + (1.0 if i in (1, 5) else 0.2) for i in range(7)]
    assert [s.start for s in found.segments] == pytest.approx(starts)


def test_one_temperature_means_no_second_try() -> None:
    engine = Engine(4, doubtful=(1, 5))
    found = engine.read(4, RecognitionOptions(temperature=(0.0,)))
    assert (engine.alone, found.again) == ([], 0)


@pytest.mark.parametrize(("most", "tried"), [(2, [7, 3, 1, 1, 1, 1, 1, 1, 1]), (1, [7, 3, 1, 1, 1, 1, 1, 1, 1])])
def test_batches_are_halved_when_memory_runs_out(most: int, tried: list[int]) -> None:
    engine = Engine(most)
    found = engine.read(8)
    assert engine.tried == tried
    assert (len(found.segments), engine.alone) == (7, [])


def test_without_memory_for_any_batch_each_window_is_decoded_alone() -> None:
    engine = Engine(0)
    found = engine.read(4)
    assert engine.tried == [4, 2, 1]
    assert engine.alone == list(range(7))
    assert (found.windows, found.again) == (0, 0)


def test_words_that_are_not_wanted_still_give_the_times() -> None:
    found = Engine(8).read(8, RecognitionOptions(word_timestamps=False))
    assert [(s.start, s.words) for s in found.segments] == [(pytest.approx(20 * i + 0.2), ()) for i in range(7)]
