"""Large transcripts are packed where they arrive, and come out as they were."""

from __future__ import annotations

import math
import zlib
from base64 import b64encode
from dataclasses import replace

import pytest
from pydantic_core import to_json

from gpu_dispatch.compression import PACKED_FROM, packed, packed_bytes, unpacked
from gpu_dispatch.task import GpuResult, PackedTranscript
from gpu_dispatch.transcript import Segment, Transcript, Word
from gpu_dispatch.wire import result_from_json, result_from_wire, result_to_wire
from manifests.errors import WorkerError


def result(words: int) -> GpuResult:
    said = tuple(Word(f" wörd{i}", i / 3, i / 3 + 0.25, 0.9) for i in range(words))
    segments = (Segment(0, 0.0, 1.0, ' "☃"', said, avg_logprob=-math.inf),)
    return GpuResult("t", Transcript("en", 1.0, 1.0, segments, "base", "e", "cpu"), execution_ms=7)


LARGE = result(PACKED_FROM // 50)


def test_a_small_one_stays_as_it_is() -> None:
    assert packed(result(2)) == result(2) and packed_bytes(result(2)) == 0


def test_a_large_one_comes_out_as_it_was_and_takes_less_until_then() -> None:
    small = packed(LARGE)
    assert unpacked(small) == LARGE
    assert PACKED_FROM < packed_bytes(small) < len(to_json(LARGE))
    assert len(to_json(small)) < packed_bytes(small) / 3


def test_a_worker_elsewhere_is_not_believed_one() -> None:
    small = packed(LARGE)
    unbelieved = replace(small, payload=None)
    assert result_from_json(to_json(small)) == unbelieved
    assert result_from_wire(result_to_wire(small)) == unbelieved


@pytest.mark.parametrize(
    "data",
    ["no base64", "bm8gemxpYg==", *(b64encode(zlib.compress(json)).decode() for json in (b"[]", b"null", b"{"))],
)
def test_what_cannot_be_read_is_told(data: str) -> None:
    with pytest.raises(WorkerError, match="cannot be read"):
        unpacked(GpuResult("t", PackedTranscript(data, 1)))
