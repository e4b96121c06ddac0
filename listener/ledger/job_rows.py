"""The table of jobs, one row each: what was intended and sent, how it ended and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import sqlalchemy as sa

from listener.ledger.database import tables

JobState = Literal["intended", "sent", "unknown", "ended"]

OPEN: tuple[JobState, ...] = ("intended", "sent", "unknown")

DAY_S = 86400.0
"""Seconds of a day. Days are UTC's, counted from the epoch."""

jobs_table = sa.Table(
    "gpudrop_jobs",
    tables,
    sa.Column("entry", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("task_id", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("bucket", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("trigger", sa.Text, nullable=False),
    sa.Column("operation", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("endpoint", sa.Text, nullable=False),
    sa.Column("endpoint_id", sa.Text, nullable=False),
    sa.Column("dialect", sa.Text, nullable=False, server_default=""),
    sa.Column("job_id", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("usd_per_s", sa.Float, nullable=False),
    sa.Column("estimate_usd", sa.Float, nullable=False),
    sa.Column("usd", sa.Float, nullable=False),
    sa.Column("units", sa.Float, nullable=False),
    sa.Column("intended", sa.Float, nullable=False),
    sa.Column("sent", sa.Float, nullable=False),
    sa.Column("ended", sa.Float, nullable=False),
    sa.Column("delay_ms", sa.BigInteger, nullable=False),
    sa.Column("execution_ms", sa.BigInteger, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    # The day it ended on, counted from the epoch; 0 while it is open. Its index covers the sums of a day.
    sa.Column("day", sa.Integer, nullable=False),
    sa.Index("gpudrop_jobs_by_day", "day", "trigger", "usd"),
    sa.Index("gpudrop_jobs_by_state", "state", "endpoint", "trigger", "estimate_usd"),
    sa.Index("gpudrop_jobs_by_task", "task_id", "attempt"),
    sa.Index("gpudrop_jobs_by_run", "run_id"),
    sa.Index("gpudrop_jobs_by_end", "ended"),
)


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job. Money is in US dollars; times are epoch seconds, 0.0 for what has not happened yet."""

    entry: str
    """Its name: "TASK-ATTEMPT-N"."""
    run_id: str
    task_id: str
    attempt: int
    bucket: str
    key: str
    trigger: str
    operation: str
    detail: str
    """The Whisper model, or ""."""
    endpoint: str
    """Its name in the configuration."""
    endpoint_id: str
    """The provider's; "" until it is known."""
    dialect: str
    """What the endpoint's workers speak, so that the job can be followed after the endpoint is removed; "": local."""
    job_id: str
    """The provider's; "" until it is known."""
    state: JobState
    usd_per_s: float
    estimate_usd: float
    usd: float
    units: float
    """The amount of work (listener.dispatch.estimates)."""
    intended: float
    sent: float
    ended: float
    delay_ms: int
    execution_ms: int
    outcome: str
    """Empty while it is open, then "done", an error's code, "taken_back" or "abandoned"."""


def job_row(row: sa.RowMapping) -> JobRow:
    return JobRow(**{name: row[name] for name in _NAMES})


_NAMES = tuple(each.name for each in fields(JobRow))
