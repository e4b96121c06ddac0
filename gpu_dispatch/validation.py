"""Validates what workers report, so that a worker can lie about its own job only.

Every result and progress report passes here where its bytes are read: from a queue, the store or a child.
"""

from __future__ import annotations

import math
from dataclasses import replace

from gpu_dispatch.task import (
    GpuResult,
    Payload,
    Progress,
    Videos,
)
from gpu_dispatch.transcript import Quality, ScriptReport, Segment, Transcript
from manifests.error_classes import validated_error
from manifests.text import plain_text, storable

_NAME_BYTES = 256
"""Most bytes of the name of a device, a model or a stage."""
_MOST_WARNINGS = 50
_LISTED = 20
"""Most entries of a list in `Quality`, each of at most _NAME_BYTES."""
MAX_DIFFERENCES = 50
"""Places listed where a script and a recording differ; the rest are counted."""
_LONGEST_MS = 30 * 86_400_000


def validated_result(result: GpuResult) -> GpuResult:
    """Returns `result` with plain text, and with an error that a worker can know."""
    return replace(
        result,
        payload=_payload(result.payload),
        error=validated_error(result.error) if result.error else None,
        execution_ms=_milliseconds(result.execution_ms),
        delay_ms=_milliseconds(result.delay_ms),
        device=_name(result.device),
    )


def validated_progress(progress: Progress) -> Progress:
    percent = progress.percent if math.isfinite(progress.percent) else 0.0
    return Progress(min(max(percent, 0.0), 100.0), _name(progress.stage))


def validated_transcript(transcript: Transcript) -> Transcript:
    """Returns `transcript` with clean names. Its text, the speaker's, loses only what no document can hold."""
    segments = transcript.segments
    if not all(_is_clean(segment) for segment in segments):
        segments = tuple(map(_segment, segments))
    return replace(
        transcript,
        segments=segments,
        language=_name(transcript.language),
        model=_name(transcript.model),
        engine=_name(transcript.engine),
        device=_name(transcript.device),
        warnings=tuple(plain_text(warning) for warning in transcript.warnings[:_MOST_WARNINGS]),
        quality=_quality(transcript.quality) if transcript.quality else None,
        script=_script(transcript.script) if transcript.script else None,
    )


def _quality(quality: Quality) -> Quality:
    return replace(
        quality,
        doubtful=tuple(replace(word, text=_name(word.text)) for word in quality.doubtful[:_LISTED]),
        loops=tuple(replace(loop, text=_name(loop.text)) for loop in quality.loops[:_LISTED]),
    )


def _script(report: ScriptReport) -> ScriptReport:
    told = tuple(
        replace(each, script=plain_text(each.script), heard=plain_text(each.heard))
        for each in report.differences[:MAX_DIFFERENCES]
    )
    return replace(report, differences=told)


def _payload(payload: Payload | None) -> Payload | None:
    if isinstance(payload, Transcript):
        return validated_transcript(payload)
    if isinstance(payload, Videos):
        files = tuple(replace(file, name=_name(file.name)) for file in payload.files)
        return replace(payload, files=files, encoder=_name(payload.encoder))
    return payload


def _is_clean(segment: Segment) -> bool:
    if segment.language != _name(segment.language):
        return False
    return segment.text.isprintable() and all(word.text.isprintable() for word in segment.words)


def _segment(segment: Segment) -> Segment:
    words = tuple(replace(word, text=storable(word.text)) for word in segment.words)
    return replace(segment, text=storable(segment.text), words=words, language=_name(segment.language))


def _name(text: str) -> str:
    return plain_text(text, _NAME_BYTES)


def _milliseconds(value: int) -> int:
    return min(max(value, 0), _LONGEST_MS)
