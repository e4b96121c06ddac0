"""Translates workers' failures into this project's errors."""

from __future__ import annotations

import json
import re
from typing import Any, cast

from manifests.errors import (
    GpuDropError,
    MediaUnreadable,
    ModelUnavailable,
    TaskRefused,
    TransferFailed,
    WorkerCrashed,
    WorkerError,
)
from manifests.text import without_secrets_in

MAX_CHARACTERS = 500
FIRST_LINE = 80

_ADDRESS = re.compile(r"https?://[^\s'\"<>]+")
_QUERY = re.compile(r"\?[^\s'\"<>]*=[^\s'\"<>]*")

_REACH = "The endpoint's machines must be able to fetch the file: use an address of the store that is public."
_VERSION = "This version of the worker differs from the published one; update it, or use another endpoint."
_CAUSES: tuple[tuple[str, type[GpuDropError], str, str], ...] = (
    (
        r"download failed|connection ?error|max retries exceeded|read timed out",
        TransferFailed,
        "could not fetch the audio",
        _REACH,
    ),
    # A failed download becomes the path "None", which Python's and FFmpeg's readers report as missing.
    (r"no such file[^\n]*['\"/]none['\"]", TransferFailed, "could not fetch the audio", _REACH),
    (
        r"failed to load audio|invalid data found|invaliddataerror",
        MediaUnreadable,
        "cannot read the audio",
        "Check that the file plays; convert it to mp3 or wav.",
    ),
    (
        r"out of memory",
        WorkerCrashed,
        "ran out of GPU memory",
        "Use a smaller model, or an endpoint with a larger GPU.",
    ),
    (r"worker exited with exit code", WorkerCrashed, "died during the job", ""),
    (r"job timed out after \d+ retries", WorkerCrashed, "died during the job", ""),
    (
        r"unexpected input|should be <class|must provide either|missing required|invalid ('audio'|model|temp|beam)",
        TaskRefused,
        "refuses the task",
        _VERSION,
    ),
    (
        r"(failed to load|error loading) model",
        ModelUnavailable,
        "cannot load the model",
        "Use one of the models in the worker's image.",
    ),
)


def failure_error(dialect: str, error: Any) -> GpuDropError:
    """Translates a provider's error value by its text, with secrets removed."""
    said = failure_text(error)
    for pattern, kind, what, hint in _CAUSES:
        if re.search(pattern, said, re.IGNORECASE):
            return kind(f"The {dialect} worker {what}: {said}", hint=hint)
    return WorkerError(
        f"The {dialect} worker failed: {said or 'it did not say why'}", hint="Look at the worker's log on RunPod."
    )


def failure_text(error: Any) -> str:
    """Returns the text of an error: a string, a list of strings, or the SDK's report of an exception; "" if none."""
    lines = [line.strip() for line in _safe(_words(error, 4)).splitlines() if line.strip()]
    if len(lines) > 1:
        # For a program's whole output, its first and last lines suffice.
        lines = [f"{lines[0][:FIRST_LINE]} … {lines[-1]}"]
    return "".join(lines)[:MAX_CHARACTERS]


def _words(error: Any, depth: int) -> str:
    if isinstance(error, str):
        report = _report(error) if depth else None
        return error if report is None else _words(report, depth - 1)
    if not depth or error is None:
        return ""
    if isinstance(error, dict):
        fields = cast("dict[str, Any]", error)
        named = next((fields[key] for key in ("error_message", "message", "error", "detail") if fields.get(key)), None)
        return _words(named, depth - 1) or ", ".join(
            f"{key}: {value}" for key, value in fields.items() if _plain(value)
        )
    if isinstance(error, list):
        return "; ".join(filter(None, (_words(one, depth - 1) for one in cast("list[Any]", error)[:20])))
    return str(error)


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _report(text: str) -> Any:
    """Parses `text` as a JSON object; None where it is plain text."""
    if not text.startswith("{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _safe(text: str) -> str:
    """Removes signatures, both from whole addresses and from a path with a query alone."""
    whole = _ADDRESS.sub(lambda found: without_secrets_in(found[0]), text)
    return _QUERY.sub("", whole).encode("utf-8", "replace").decode()
