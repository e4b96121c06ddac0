"""What the documents that users find have in common, and the dead letter of a failed run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from manifests.errors import ErrorInfo

CONTENT_TYPE = "application/json; charset=utf-8"

MAX_VALUES = 1_000_000
"""Values. The project's documents stay far below; many more take a gigabyte and block everything while parsed."""


@dataclass(frozen=True, slots=True)
class JobNote:
    """A job of the run."""

    id: str
    """The job's id at its endpoint."""
    endpoint: str
    """The endpoint's name, or "local"."""
    state: str = ""
    """The job's state, in one word."""


def iso(when: datetime) -> str:
    """Formats `when` as 2025-10-03T10:00:00.000Z: UTC with milliseconds, as JavaScript writes it."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def error_fields(error: ErrorInfo) -> dict[str, Any]:
    return {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "retryable": error.retryable,
        "where": error.where,
    }


def job_fields(job: JobNote) -> dict[str, Any]:
    return {"id": job.id, "endpoint": job.endpoint, "state": job.state}


def document_bytes(fields: Mapping[str, Any]) -> bytes:
    """Encodes a document as indented UTF-8 JSON with a final newline."""
    text = json.dumps(_plain(fields), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    # Writes a lone surrogate as its JSON escape.
    return text.encode("utf-8", "backslashreplace")


def document_fields(body: bytes) -> dict[str, Any]:
    """Parses a document; {} for anything else, because users may overwrite documents."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        return {}
    try:
        # pydantic's JSON parser rejects lone surrogates, which names and metadata may have.
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", document) if isinstance(document, dict) else {}


def _plain(value: Any) -> Any:
    """Converts `value` to plain dicts and lists, with null for NaN and infinities."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in cast("Sequence[Any]", value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True, slots=True)
class AttemptNote:
    """One attempt at one task."""

    task_id: str
    number: int
    started: datetime
    ended: datetime
    job: JobNote | None = None
    error: ErrorInfo | None = None
    """None: the attempt succeeded."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Everything needed to understand a failed run and to redrive it."""

    run_id: str
    key: str
    event: Mapping[str, Any]
    """The event that started the run, as JSON data: bucket, key, version, source, trigger."""
    error: ErrorInfo
    failed: datetime
    operation: str | None = None
    manifest: str | None = None
    """Its text as read, addresses without their queries; None for bare media and for an unreadable manifest."""
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
