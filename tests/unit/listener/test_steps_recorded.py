"""What the engine records of a step is read back as it was, however large, and as earlier versions recorded it."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import TypeAdapter

from gpu_dispatch.task import GpuResult, Segment, Transcript, Word
from listener.dispatch.request import Tried
from listener.runs.steps import LARGE, recalled, recordable

TRIED: TypeAdapter[Tried] = TypeAdapter(Tried)


def tried(words: int) -> Tried:
    said = tuple(Word(f" wörd{i}", i / 3, i / 3 + 0.25, 0.9) for i in range(words))
    segments = (Segment(0, 0.0, 1.0, ' "☃"', said, avg_logprob=-math.inf),)
    return Tried(1.0, 2.0, result=GpuResult("t", Transcript("en", 1.0, 1.0, segments, "base", "e", "cpu")))


@pytest.mark.parametrize(("words", "large"), [(2, False), (LARGE // 50, True)])
def test_a_value_comes_back_as_it_was(words: int, large: bool) -> None:
    recorded = recordable(TRIED, tried(words))
    assert ("json" in recorded) is large
    assert recalled(TRIED, json.loads(json.dumps(recorded))) == tried(words)


def test_a_large_value_that_an_earlier_version_recorded_is_read() -> None:
    value = tried(LARGE // 50)
    assert recalled(TRIED, {"value": TRIED.dump_python(value, mode="json")}) == value
