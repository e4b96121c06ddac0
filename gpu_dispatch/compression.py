"""Compresses large transcripts: as objects, the words of some hours take ten times as much as in compressed JSON.

A result is packed where it arrives, and unpacked where its outputs are made.

A run with a large step under way cannot go on under an older version of gpudrop.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace

from pydantic_core import to_json

from gpu_dispatch.task import GpuResult, PackedTranscript, uncached
from gpu_dispatch.transcript import Transcript
from gpu_dispatch.validation import validated_transcript
from manifests.errors import WorkerError

PACKED_FROM = 2**18
"""Bytes of JSON from which a transcript is packed: about an hour of speech."""

MAX_BYTES = 512 * 2**20
"""Most bytes of JSON that are unpacked; ten hours of speech are about 10 MB."""

_LEVEL = 1
"""Compression level of zlib; higher ones take several times as long and save a tenth."""

_TRANSCRIPT = uncached(Transcript)


def packed(result: GpuResult) -> GpuResult:
    """Returns `result` with its transcript packed if it is large."""
    if not isinstance(result.payload, Transcript):
        return result
    # A time or a probability may be NaN; as null it would make the whole transcript invalid.
    data = to_json(result.payload, inf_nan_mode="constants")
    if len(data) < PACKED_FROM:
        return result
    text = base64.b64encode(zlib.compress(data, _LEVEL)).decode("ascii")
    return replace(result, payload=PackedTranscript(text, len(data)))


def unpacked(result: GpuResult) -> GpuResult:
    """Returns `result` with its transcript unpacked, as handlers need it. Raises WorkerError when it is unreadable."""
    if not isinstance(result.payload, PackedTranscript):
        return result
    try:
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(base64.b64decode(result.payload.data), MAX_BYTES)
        transcript = _TRANSCRIPT.validate_json(data)
    except (zlib.error, ValueError) as e:
        raise _unreadable(result) from e
    if transcript is None:
        raise _unreadable(result)
    return replace(result, payload=validated_transcript(transcript))


def _unreadable(result: GpuResult) -> WorkerError:
    return WorkerError(
        f"The transcript of {result.task_id} is on record, but cannot be read.",
        hint="`gpudrop redrive` does the work again.",
    )


def packed_bytes(result: GpuResult) -> int:
    """Returns the bytes of JSON that are packed in `result`; 0 when nothing is packed."""
    return result.payload.size if isinstance(result.payload, PackedTranscript) else 0
