"""The documents beside a drop: status during a run, then done or error.

Each is a frozen value and a function that encodes it: UTF-8 JSON, never empty. Times are aware datetimes, written in
UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast

from manifests.documents import JobNote, document_bytes, document_fields, error_fields, iso, job_fields
from manifests.errors import ErrorInfo
from manifests.names import Sidecar

MAX_BYTES: Mapping[Sidecar, int] = {"status": 4 * 2**20, "done": 32 * 2**20, "error": 32 * 2**20}
"""A larger object is not a sidecar."""

_ABOUT_CALLBACK = "callback_url: "

RunState = Literal["accepted", "waiting", "queued", "running", "writing"]


@dataclass(frozen=True, slots=True)
class StatusSidecar:
    """NAME.status.json."""

    run_id: str
    key: str
    state: RunState
    updated: datetime
    started: datetime
    operation: str | None = None
    percent: float = 0.0
    stage: str = ""
    attempt: int = 1
    waiting_for: Sequence[str] = ()
    """Missing inputs, or what else the run waits for, in words."""
    jobs: Sequence[JobNote] = ()
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class OutputNote:
    """A file that the run wrote."""

    key: str
    size: int | None = None
    link: str | None = None
    """A presigned URL; None where the store has none."""


@dataclass(frozen=True, slots=True)
class DoneSidecar:
    """NAME.done.json: the old API's answer, and newer fields."""

    run_id: str
    key: str
    operation: str
    message: str
    started: datetime
    ended: datetime
    response: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The operation's part, with URLs for links: files, video_url, videos, language, …"""
    stats: Mapping[str, Any] = field(default_factory=dict[str, Any])
    outputs: Sequence[OutputNote] = ()
    jobs: Sequence[JobNote] = ()
    links_expire: datetime | None = None
    cost_usd: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    version: str = ""
    """The drop's."""


@dataclass(frozen=True, slots=True)
class ErrorSidecar:
    """NAME.error.json."""

    run_id: str
    key: str
    error: ErrorInfo
    ended: datetime
    started: datetime
    operation: str | None = None
    attempts: int = 1
    dead_letter: str | None = None
    """Key of the dead letter; None without one."""
    cost_usd: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    version: str = ""
    """The drop's."""


@dataclass(frozen=True, slots=True)
class CallbackNote:
    """The state of the run's callback."""

    state: str
    """waiting, delivered, refused or given_up."""
    attempts: int
    last_error: str = ""
    hint: str = ""


def status_bytes(status: StatusSidecar) -> bytes:
    return document_bytes(
        {
            "state": status.state,
            "percent": round(status.percent, 1),
            "stage": status.stage,
            "attempt": status.attempt,
            "waiting_for": status.waiting_for,
            "jobs": [job_fields(j) for j in status.jobs],
            "run_id": status.run_id,
            "key": status.key,
            "operation": status.operation,
            "started": iso(status.started),
            "updated": iso(status.updated),
            **_cost(status.cost_usd),
        }
    )


def done_bytes(done: DoneSidecar) -> bytes:
    head = {"code": 200, "message": done.message}
    ours = {
        "execution": _execution(done.started, done.ended),
        "stats": done.stats,
        "run_id": done.run_id,
        "key": done.key,
        **_version(done.version),
        "operation": done.operation,
        "outputs": [_output(o) for o in done.outputs],
        "jobs": [{"id": job.id, "endpoint": job.endpoint} for job in done.jobs],
        "links": {o.key: o.link for o in done.outputs if o.link},
        **({"links_expire": iso(done.links_expire)} if done.links_expire else {}),
        **_cost(done.cost_usd),
        "metadata": done.metadata,
    }
    # The operation's fields come second, as in the old API, and never replace a common one.
    return document_bytes({**head, **done.response, **head, **ours})


def failed_bytes(failed: ErrorSidecar) -> bytes:
    return document_bytes(
        {
            **error_fields(failed.error),
            "attempts": failed.attempts,
            "dead_letter": failed.dead_letter,
            "run_id": failed.run_id,
            "key": failed.key,
            **_version(failed.version),
            "operation": failed.operation,
            "execution": _execution(failed.started, failed.ended),
            **_cost(failed.cost_usd),
            "metadata": failed.metadata,
        }
    )


def with_callback(body: bytes, run_id: str, note: CallbackNote) -> bytes | None:
    """Adds its callback's state, and a warning if that failed, to the run's final sidecar; None for any other body."""
    fields = document_fields(body)
    if fields.get("run_id") != run_id:
        return None
    told = {"state": note.state, "attempts": note.attempts, "last_error": note.last_error, "hint": note.hint}
    warning = f"{_ABOUT_CALLBACK}{note.last_error} {note.hint}".rstrip()
    lost = note.state in ("refused", "given_up")
    return document_bytes({**_replace_callback(fields, [warning] if lost else []), "callback": told})


def awaits_callback(body: bytes) -> bool:
    """Returns whether a final sidecar has a callback that is still waiting."""
    told = document_fields(body).get("callback")
    return isinstance(told, dict) and cast("dict[str, Any]", told).get("state") == "waiting"


def without_callback(body: bytes) -> bytes:
    """Removes the callback's state, and warnings about it, from a final sidecar."""
    fields = document_fields(body)
    return document_bytes(_replace_callback(fields, [])) if "callback" in fields else body


def _replace_callback(fields: Mapping[str, Any], warnings: Sequence[str]) -> dict[str, Any]:
    """Removes the callback's state from `fields` and replaces its warnings by `warnings`; all else stays in place."""
    given: Any = fields.get("warnings")
    others = cast("list[Any]", given) if isinstance(given, list) else []
    kept = [*(w for w in others if not str(w).startswith(_ABOUT_CALLBACK)), *warnings]
    rest = {name: value for name, value in {**fields, "warnings": kept}.items() if name != "callback"}
    return rest if kept else {name: value for name, value in rest.items() if name != "warnings"}


def _execution(started: datetime, ended: datetime) -> dict[str, Any]:
    milliseconds = round((ended - started).total_seconds() * 1000)
    return {
        "startTime": iso(started),
        "endTime": iso(ended),
        "durationMs": milliseconds,
        "durationSeconds": milliseconds / 1000,
    }


def _output(output: OutputNote) -> dict[str, Any]:
    return {"key": output.key, "size": output.size}


def _version(version: str) -> dict[str, Any]:
    return {"version": version} if version else {}


def _cost(usd: float | None) -> dict[str, Any]:
    return {} if usd is None else {"cost": {"usd": round(usd, 6)}}
