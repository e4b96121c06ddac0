"""What users find beside their drop, byte by byte."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st

from manifests.documents import AttemptNote, DeadLetter, JobNote, dead_letter_bytes, document_bytes, iso
from manifests.errors import ErrorInfo
from manifests.sidecars import (
    DoneSidecar,
    ErrorSidecar,
    OutputNote,
    StatusSidecar,
    done_bytes,
    failed_bytes,
    status_bytes,
)

START = datetime(2025, 10, 3, 10, 0, 0, tzinfo=UTC)
END = START + timedelta(seconds=90, milliseconds=250)
ERROR = ErrorInfo("input_missing", "Not there: 'ação.mp3'.", "Put it there.", retryable=False, where="audio")


def test_done_is_the_old_answer_and_more() -> None:
    data = done_bytes(
        DoneSidecar(
            run_id="r1",
            key="a/talk.job.json",
            operation="caption",
            message="Captions burnt into ação.mp4.",
            started=START,
            ended=END,
            response=MappingProxyType({"video_url": "https://s/x.mp4", "code": 500, "run_id": "other"}),
            stats={"jobId": "j1", "delayTime": 500, "executionTime": 89500},
            outputs=(OutputNote("a/x.mp4", 12, "https://s/x.mp4?sig"), OutputNote("a/y.srt")),
            jobs=(JobNote("j1", "gpu", "completed"),),
            links_expire=END,
            cost_usd=0.0123456789,
            metadata={"video_id": 42},
        )
    )
    assert data.endswith(b"}\n")
    assert "ação".encode() in data
    document = json.loads(data)
    assert list(document)[:3] == ["code", "message", "video_url"]
    assert document == {
        "code": 200,
        "message": "Captions burnt into ação.mp4.",
        "video_url": "https://s/x.mp4",
        "execution": {
            "startTime": "2025-10-03T10:00:00.000Z",
            "endTime": "2025-10-03T10:01:30.250Z",
            "durationMs": 90250,
            "durationSeconds": 90.25,
        },
        "stats": {"jobId": "j1", "delayTime": 500, "executionTime": 89500},
        "run_id": "r1",
        "key": "a/talk.job.json",
        "operation": "caption",
        "outputs": [{"key": "a/x.mp4", "size": 12}, {"key": "a/y.srt", "size": None}],
        "jobs": [{"id": "j1", "endpoint": "gpu"}],
        "links": {"a/x.mp4": "https://s/x.mp4?sig"},
        "links_expire": "2025-10-03T10:01:30.250Z",
        "cost": {"usd": 0.012346},
        "metadata": {"video_id": 42},
    }


def test_status() -> None:
    status = StatusSidecar(
        run_id="r1", key="a/t.mp3", state="waiting", started=START, updated=END, percent=12.345,
        waiting_for=("a/x.mp3",), jobs=(JobNote("j1", "local", "running"),),
    )  # fmt: skip
    document = json.loads(status_bytes(status))
    assert document["state"] == "waiting"
    assert document["percent"] == 12.3
    assert document["waiting_for"] == ["a/x.mp3"]
    assert document["jobs"] == [{"id": "j1", "endpoint": "local", "state": "running"}]
    assert (document["started"], document["updated"]) == ("2025-10-03T10:00:00.000Z", "2025-10-03T10:01:30.250Z")
    assert document["operation"] is None
    assert "cost" not in document


def test_error_and_dead_letter() -> None:
    failed = ErrorSidecar("r1", "a/t.mp3", ERROR, started=START, ended=END, attempts=3, dead_letter="_dlq/x.json")
    document = json.loads(failed_bytes(failed))
    assert {n: document[n] for n in ("code", "message", "hint", "retryable", "where")} == {
        "code": "input_missing", "message": "Not there: 'ação.mp3'.", "hint": "Put it there.", "retryable": False,
        "where": "audio",
    }  # fmt: skip
    assert (document["attempts"], document["dead_letter"]) == (3, "_dlq/x.json")
    attempts = [
        AttemptNote("r1-j0", 1, START, END, JobNote("j1", "local"), ERROR),
        AttemptNote("r1-j0", 2, START, END),
    ]
    letter = DeadLetter("r1", "a/t.mp3", {"bucket": "b"}, ERROR, END, manifest="audio: ação.mp3\n", attempts=attempts)
    document = json.loads(dead_letter_bytes(letter))
    assert document["manifest"] == "audio: ação.mp3\n"
    assert document["error"]["code"] == document["attempts"][0]["error"]["code"] == "input_missing"
    assert document["attempts"][1]["error"] is None
    assert document["event"] == {"bucket": "b"}


def test_times_are_written_in_utc() -> None:
    assert iso(datetime(2026, 1, 1, 0, 0, 0, 999, tzinfo=timezone(timedelta(hours=-3)))) == "2026-01-01T03:00:00.000Z"


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda v: st.lists(v, max_size=3).map(tuple) | st.dictionaries(st.text(), v, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters()), _values, max_size=4))
def test_any_document_is_strict_json(fields: dict[str, object]) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(name)

    data = document_bytes(fields)
    assert set(json.loads(data, parse_constant=no_constant)) == set(fields)
