"""Sidecars that somebody else may have written: nothing is believed that no run of ours writes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from manifests.final_sidecars import FinalSidecar, final_sidecar_from_bytes, run_id_of
from manifests.sidecars import awaits_callback

DONE: dict[str, Any] = {"run_id": "r1", "key": "a/talk.mp3", "code": 200, "outputs": [{"key": "a/talk.srt", "size": 1}]}


def test_what_a_run_wrote_is_read_back() -> None:
    body = json.dumps({**DONE, "transcription": "one, two, " * 100_000}).encode()
    assert final_sidecar_from_bytes(body) == FinalSidecar("r1", "a/talk.mp3", outputs=("a/talk.srt",))
    failed = {"run_id": "r1", "key": "a/talk.mp3", "code": "no_speech"}
    assert final_sidecar_from_bytes(json.dumps(failed).encode()) == FinalSidecar("r1", "a/talk.mp3", "no_speech")


@pytest.mark.parametrize("field", ["run_id", "key", "code"])
@pytest.mark.parametrize("text", ["\ud800", "a\0b", "", "x" * 100_000])
def test_text_that_no_database_takes_is_none_of_ours(field: str, text: str) -> None:
    body = json.dumps({**DONE, field: text}).encode()
    assert final_sidecar_from_bytes(body) is None
    if field != "code":
        assert run_id_of(body) == ""


@pytest.mark.parametrize("more", [b"[],", b"{},", b"1,", b'"",', b'{"a":1},'])
def test_a_sidecar_of_very_many_values_is_none_of_ours(more: bytes) -> None:
    """Made into objects, it would take a gigabyte, and all of the interpreter's time for seconds."""
    body = b'{"run_id":"r1","key":"a","code":200,"callback":{"state":"waiting"},"x":[' + more * 4_000_000 + b"0]}"
    assert (run_id_of(body), final_sidecar_from_bytes(body), awaits_callback(body)) == ("", None, False)
