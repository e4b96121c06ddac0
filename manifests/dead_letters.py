"""Dead letters: what is kept of a run that failed for good, under _dlq/ at the bucket's root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from manifests.documents import JobNote, document_bytes, error_fields, iso, job_fields
from manifests.errors import ErrorInfo


@dataclass(frozen=True, slots=True)
class AttemptNote:
    """One try of one job. `error` is None when it went well."""

    task_id: str
    number: int
    started: datetime
    ended: datetime
    job: JobNote | None = None
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Everything needed to understand a failed run, and to run it again.

    `event` is what started it, as JSON data: bucket, key, version, source, trigger. `manifest` is the text as
    it was read, its addresses without their queries; None for bare media, and when it could not be read.
    """

    run_id: str
    key: str
    event: Mapping[str, Any]
    error: ErrorInfo
    failed: datetime
    operation: str | None = None
    manifest: str | None = None
    attempts: Sequence[AttemptNote] = ()


def dead_letter_bytes(letter: DeadLetter) -> bytes:
    return document_bytes(
        {
            "run_id": letter.run_id,
            "key": letter.key,
            "operation": letter.operation,
            "failed": iso(letter.failed),
            "error": error_fields(letter.error),
            "event": letter.event,
            "manifest": letter.manifest,
            "attempts": [
                {
                    "task_id": a.task_id,
                    "number": a.number,
                    "started": iso(a.started),
                    "ended": iso(a.ended),
                    "job": job_fields(a.job) if a.job else None,
                    "error": error_fields(a.error) if a.error else None,
                }
                for a in letter.attempts
            ],
        }
    )
