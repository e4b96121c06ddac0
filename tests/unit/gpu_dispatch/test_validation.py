"""What is believed of workers, wherever their words come in: from RunPod, from the store, from a child."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from gpu_dispatch.backend import JobRef
from gpu_dispatch.protocol import DoneReport, ProgressReport, report_from_line, report_line
from gpu_dispatch.runpod.dialects.gpudrop import GpudropDialect
from gpu_dispatch.runpod.responses import job_response_from, job_state_of
from gpu_dispatch.task import (
    GpuResult,
    Progress,
    VideoFile,
    Videos,
)
from gpu_dispatch.transcript import Segment, Transcript, Word
from gpu_dispatch.wire import result_to_wire
from listener.dispatch.outcomes import result_of
from manifests.error_classes import WORKER_CODES
from manifests.errors import ErrorInfo, GpuDropError

NASTY = "\x1b[2J\u202ewords\x00" + "x" * 10_000


def from_runpod(result: GpuResult) -> GpuResult | None:
    body = {"id": "job", "status": "COMPLETED", "output": {"result": result_to_wire(result)}}
    answer = job_response_from(json.dumps(body).encode())
    assert answer
    status = job_state_of(answer, JobRef("b", "e", "job", "t"), GpudropDialect()).status
    return status.result if status else None


def from_the_store(result: GpuResult) -> GpuResult | None:
    return result_of(json.dumps(result_to_wire(result)).encode())


def from_a_child(result: GpuResult) -> GpuResult | None:
    report = report_from_line(report_line(DoneReport("job", result)))
    return report.result if isinstance(report, DoneReport) else None


WAYS = pytest.mark.parametrize("way", [from_runpod, from_the_store, from_a_child])
Way = Callable[[GpuResult], GpuResult | None]


def every_code() -> list[str]:
    kinds, found = [GpuDropError], set[str]()
    while kinds:
        kind = kinds.pop()
        found.add(kind.code)
        kinds += kind.__subclasses__()
    return sorted(found | {"made_up", ""})


@WAYS
def test_a_worker_says_only_what_workers_can_know(way: Way) -> None:
    for code in every_code():
        result = way(GpuResult("t", error=ErrorInfo(code, "said", "do this", retryable=True)))
        assert result and result.error
        known = code in WORKER_CODES
        assert result.error.code == (code if known else "worker_error")
        assert result.error.retryable == (known and WORKER_CODES[code])
        assert "said" in result.error.message and result.error.hint
    ours = {"queued_too_long", "submit_unknown", "superseded", "job_lost", "endpoint_denied", "store_unavailable"}
    assert not ours & WORKER_CODES.keys()


@WAYS
def test_a_worker_may_say_that_no_other_try_helps(way: Way) -> None:
    result = way(GpuResult("t", error=ErrorInfo("transfer_failed", "said", retryable=False)))
    assert result and result.error and not result.error.retryable


@WAYS
def test_words_are_cut_and_cleaned(way: Way) -> None:
    error = ErrorInfo("worker_error", NASTY, NASTY, where=NASTY)
    result = way(GpuResult("t", error=error, device=NASTY, execution_ms=-5, delay_ms=2**62))
    assert result and result.error
    texts = (result.error.message, result.error.hint, result.error.where, result.device)
    assert all(text.startswith("words") and len(text.encode()) <= 4096 for text in texts)
    assert result.execution_ms == 0 and 0 <= result.delay_ms < 2**40


@WAYS
def test_a_payload_keeps_the_speakers_words(way: Way) -> None:
    said = " Ünï\u202e\x00\x1b[1m said"
    segment = Segment(0, 0.0, 1.0, said, (Word(said, 0.0, 1.0),))
    result = way(GpuResult("t", Transcript(NASTY, 1.0, 1.0, (segment,), NASTY, NASTY, NASTY)))
    assert result and isinstance(result.payload, Transcript)
    assert result.payload.segments[0].text == result.payload.words[0].text == " Ünï\u202e[1m said"
    heads = (result.payload.language, result.payload.model, result.payload.engine, result.payload.device)
    assert all(text.startswith("words") and len(text) <= 256 for text in heads)
    warned = way(GpuResult("t", Transcript("en", 1.0, 1.0, (), "m", "e", "cpu", warnings=(NASTY,) * 1000)))
    assert warned and isinstance(warned.payload, Transcript) and 0 < len(warned.payload.warnings) <= 50
    assert all(text.startswith("words") and len(text.encode()) <= 4096 for text in warned.payload.warnings)
    films = way(GpuResult("t", Videos((VideoFile(NASTY, 1, 1.0, 1, 1, 1),), NASTY)))
    assert films and isinstance(films.payload, Videos)
    assert len(films.payload.encoder) <= 256 and len(films.payload.files[0].name) <= 256


@pytest.mark.parametrize("percent", [float("nan"), float("inf"), -5.0, 1e300])
def test_progress_is_a_percentage_and_a_word(percent: float) -> None:
    line = (
        report_line(ProgressReport("job", Progress(percent, NASTY)))
        .replace(b"NaN", b'"NaN"')
        .replace(b"Infinity", b'"inf"')
    )
    report = report_from_line(line)
    assert isinstance(report, ProgressReport) and 0.0 <= report.progress.percent <= 100.0
    assert report.progress.stage.startswith("words") and len(report.progress.stage) <= 256
