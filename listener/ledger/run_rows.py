"""Runs, one row each: what started them, how they stand, why they are to end, and what they wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from listener.ledger.database import tables
from manifests.errors import RunCancelled, RunSuperseded

RunState = Literal["accepted", "waiting", "queued", "running", "writing", "done", "failed", "cancelled", "superseded"]
EndReason = Literal["cancelled", "superseded", "incomplete"]
"""Why a run is to end early. "incomplete": one of its jobs has failed for good, and the others would be for nothing."""
ENDED: frozenset[RunState] = frozenset({"done", "failed", "cancelled", "superseded"})

_STATES: Mapping[str, RunState] = {RunCancelled.code: "cancelled", RunSuperseded.code: "superseded"}


def state_after(error_code: str) -> RunState:
    """How a run has ended whose error has this code; "": it has none."""
    return _STATES.get(error_code, "failed") if error_code else "done"


runs_table = sa.Table(
    "gpudrop_runs",
    tables,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("bucket", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("trigger", sa.Text, nullable=False),
    sa.Column("operation", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("error_code", sa.Text, nullable=False),
    sa.Column("cancel", sa.Text, nullable=False),
    sa.Column("member", sa.Text, nullable=False, server_default=""),
    sa.Column("accepted", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Column("share", sa.Text, nullable=False, server_default=""),
    sa.Column("due", sa.Float, nullable=False, server_default=sa.text("0")),
    sa.Index("gpudrop_runs_by_key", "bucket", "key"),
    sa.Index("gpudrop_runs_by_time", "accepted"),
    sa.Index("gpudrop_runs_by_state", "state", "member"),
    sa.Index("gpudrop_runs_by_share", "state", "member", "share", "accepted"),
    sa.Index("gpudrop_runs_by_due", "state", "member", "share", "due"),
)


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run. Times are seconds since the epoch; `request` is what the engine is given, as JSON data.

    `member` is the listener that handed it to its engine; "" while it waits for one with room. `note` says in words
    what an unfinished run waits for. `share` is the one of listener.fairness that it is part of; `due` is when one
    that waits for its inputs, and is told nowhere meanwhile, is looked at again.
    """

    run_id: str
    bucket: str
    key: str
    trigger: str
    state: RunState
    accepted: float
    updated: float
    request: Any
    operation: str = ""
    error_code: str = ""
    cancel: str = ""
    member: str = ""
    note: str = ""
    share: str = ""
    due: float = 0.0

    @property
    def ended(self) -> bool:
        return self.state in ENDED
