"""The table of runs, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from listener.ledger.database import tables
from manifests.errors import RunCancelled, RunSuperseded

RunState = Literal["accepted", "waiting", "queued", "running", "writing", "done", "failed", "cancelled", "superseded"]
EndReason = Literal["cancelled", "superseded", "incomplete"]
"""Why a run is to end early. "incomplete": one of its jobs failed for good, so the others would be useless."""
ENDED: frozenset[RunState] = frozenset({"done", "failed", "cancelled", "superseded"})

_STATES: Mapping[str, RunState] = {RunCancelled.code: "cancelled", RunSuperseded.code: "superseded"}


def state_after(error_code: str) -> RunState:
    """Returns the final state of a run with this error code; "": without an error."""
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
    """One run. Times are epoch seconds."""

    run_id: str
    bucket: str
    key: str
    trigger: str
    state: RunState
    accepted: float
    updated: float
    request: Any
    """What the engine is given, as JSON data."""
    operation: str = ""
    error_code: str = ""
    cancel: str = ""
    """The EndReason for which it is to end; "": none."""
    member: str = ""
    """The listener that claimed it for its engine; "" while it waits for one."""
    note: str = ""
    """What an unfinished run waits for, in words."""
    share: str = ""
    """Its share of listener.fairness."""
    due: float = 0.0
    """When the inputs of a waiting run are looked up again."""

    @property
    def ended(self) -> bool:
        return self.state in ENDED
