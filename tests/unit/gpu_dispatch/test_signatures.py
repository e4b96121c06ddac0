"""What is signed or sealed with an attempt's key is believed, and nothing that differs by a byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_dispatch.claims import Claim, claim_bytes, claim_from_bytes
from gpu_dispatch.signatures import KEY_BYTES, attempt_key, key_from_text, sealed, signed, unsealed, verified
from gpu_dispatch.task import AddAudioParams, GpuTask

KEY = attempt_key(b"s" * KEY_BYTES, "run-j0", 1)
OTHERS = [attempt_key(b"s" * KEY_BYTES, "run-j0", 2), attempt_key(b"s" * KEY_BYTES, "run-j01", 1), b"x" * KEY_BYTES]
CLAIM = Claim("run-j0", "job", "ep", "w", 1764258000.123)


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400), st.integers(1, 255))
def test_one_byte_makes_it_another(data: bytes, at: int, by: int) -> None:
    for put, got in ((signed(data, KEY, "answer"), verified), (sealed(data, KEY, "answer"), unsealed)):
        assert got(put, KEY, "answer") == data
        changed = bytearray(put)
        changed[at % len(put)] ^= by
        assert got(bytes(changed), KEY, "answer") is None
        assert got(put[: at % len(put)], KEY, "answer") is None
        assert got(put, KEY, "task") is None
        assert all(got(put, other, "answer") is None for other in OTHERS)
    assert verified(data, KEY, "answer") is None and unsealed(data, KEY, "answer") is None


@pytest.mark.parametrize("field", ["task_id", "job_id", "endpoint_id", "worker", "at", "begun", "mac"])
def test_every_field_of_a_claim_is_signed(field: str) -> None:
    data = claim_bytes(CLAIM, KEY)
    assert claim_from_bytes(data, KEY) == claim_from_bytes(data) == CLAIM
    fields = json.loads(data)
    fields[field] = fields[field] + (1 if isinstance(fields[field], int | float) else "é")
    assert claim_from_bytes(json.dumps(fields).encode(), KEY) is None
    assert all(claim_from_bytes(data, other) is None for other in OTHERS)
    assert claim_from_bytes(claim_bytes(CLAIM), KEY) is None


@pytest.mark.parametrize("job_id", ["..", "a/b", "a b", "a\n", "é", "x" * 201])
def test_a_claim_names_jobs_that_can_be_asked_for(job_id: str) -> None:
    assert claim_from_bytes(claim_bytes(Claim("t", job_id, "ep", "w", 1.0), KEY), KEY) is None


def test_a_key_is_shown_nowhere_and_is_whole_or_none() -> None:
    task = GpuTask("t", AddAudioParams(video="v", audio="a", output="o"), (), secret=KEY.hex())
    assert KEY.hex() not in repr(task) and key_from_text(task.secret) == KEY
    assert key_from_text("") is None
    for wrong in ("ab", "zz", KEY.hex()[:-2]):
        with pytest.raises(ValueError):
            key_from_text(wrong)
