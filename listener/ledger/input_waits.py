"""Runs that wait for their inputs and are told nowhere meanwhile: what each waits for, and when it is looked at."""

from __future__ import annotations

import sqlalchemy as sa

from listener.ledger.database import tables

awaited_table = sa.Table(
    "gpudrop_awaited",
    tables,
    sa.Column("bucket", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Index("gpudrop_awaited_by_run", "run_id"),
)
