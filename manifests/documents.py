"""The documents users find: what they have in common, and the dead letter of a run that failed for good."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from manifests.errors import ErrorInfo

CONTENT_TYPE = "application/json; charset=utf-8"

MOST_VALUES = 1_000_000
"""No document of ours comes near it. Many more take a gigabyte as objects, and nothing else runs while they are made.
"""


@dataclass(frozen=True, slots=True)
class JobNote:
    """A job of the run: its id where it runs, the endpoint (or "local"), and how it stands, in a word."""

    id: str
    endpoint: str
    state: str = ""


def iso(when: datetime) -> str:
    """2025-10-03T10:00:00.000Z: UTC with milliseconds, as JavaScript writes it."""
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
    """UTF-8 JSON, indented, with a newline at its end."""
    text = json.dumps(_plain(fields), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    # A lone surrogate is written as its JSON escape.
    return text.encode("utf-8", "backslashreplace")


def document_fields(body: bytes) -> dict[str, Any]:
    """A document's fields; {} for what is none of ours: whoever may drop files may write over one."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MOST_VALUES:
        return {}
    try:
        # Not pydantic's own reader of JSON: it takes no lone surrogates, which names and metadata may have.
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", document) if isinstance(document, dict) else {}


def _plain(value: Any) -> Any:
    """`value` with plain dicts and lists, and null for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in cast("Sequence[Any]", value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


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
