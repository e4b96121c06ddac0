"""What the documents users find have in common: how times, errors and jobs are written, and how bytes are made."""

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
