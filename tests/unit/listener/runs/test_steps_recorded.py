"""What the engine records of a step is read back as it was, however large, and as earlier versions recorded it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from pydantic_core import to_json

from gpu_dispatch.backend import JobRef
from gpu_dispatch.compression import PACKED_FROM, packed
from gpu_dispatch.task import GpuResult
from gpu_dispatch.transcript import Segment, Transcript, Word
from listener.dispatch.request import AttemptResult
from listener.runs.steps import adapter_of, recorded_value
from manifests.errors import JobLost

ATTEMPT = adapter_of(AttemptResult)
LARGE = PACKED_FROM // 50


def result(words: int) -> GpuResult:
    said = tuple(Word(f" wörd{i}", i / 3, i / 3 + 0.25, 0.9) for i in range(words))
    segments = (Segment(0, 0.0, 1.0, ' "☃"', said, avg_logprob=-math.inf),)
    return GpuResult("t", Transcript("en", 1.0, 1.0, segments, "base", "e", "cpu"))


@pytest.mark.parametrize("value", [result(2), packed(result(LARGE)), result(LARGE)], ids=["small", "packed", "earlier"])
def test_a_value_comes_back_as_it_was(value: GpuResult) -> None:
    tried = AttemptResult(1.0, 2.0, result=value)
    recorded = {"value": ATTEMPT.dump_python(tried, mode="json")}
    assert recorded_value(ATTEMPT, json.loads(json.dumps(recorded))) == tried


def test_a_value_that_was_recorded_as_text_is_read() -> None:
    tried = AttemptResult(1.0, 2.0, result=result(LARGE))
    assert recorded_value(ATTEMPT, {"json": to_json(tried, inf_nan_mode="constants").decode()}) == tried


def test_an_attempt_that_an_earlier_version_recorded_is_read() -> None:
    recorded: Any = {
        "started": 1.0,
        "at": 9.5,
        "job": {"backend": "gpu", "endpoint": "ep1", "job_id": "j1", "task_id": "r-j0"},
        "result": None,
        "error": {"code": "job_lost", "message": "Gone.", "hint": "", "where": "", "retryable": True},
        "usd": 0.25,
        "counts": False,
        "marks": True,
        "alone": True,
        "unserved": False,
    }
    error = JobLost("Gone.", retryable=True).info
    job = JobRef("gpu", "ep1", "j1", "r-j0")
    expected = AttemptResult(1.0, 9.5, job, error=error, usd=0.25, counts=False, marks=True, alone=True)
    assert recorded_value(ATTEMPT, {"value": recorded}) == expected
