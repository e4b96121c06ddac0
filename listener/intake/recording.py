"""Runs as the ledger first hears of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from listener.fair_shares import share_of
from listener.intake.deciding import Run
from listener.ledger.inbox import Told
from listener.ledger.objects import Seen
from listener.ledger.runs import RunRow
from listener.runs.request import REDRIVE, RunRequest, run_id_of

_REQUEST: TypeAdapter[RunRequest] = TypeAdapter(RunRequest)


def request_of(told: Told, run: Run) -> RunRequest:
    """Of the version as HEAD tells it: whoever looks at it, in whatever life, comes to the same id."""
    return RunRequest(
        run_id=run_id_of(told.bucket, told.key, run.meta.version),
        bucket=told.bucket,
        key=told.key,
        version=run.meta.version,
        trigger=run.trigger,
        received=told.received,
        object_time=run.meta.last_modified.timestamp(),
        source=told.source,
        lineage=run.lineage,
    )


def returned(request: RunRequest, seen: Seen) -> RunRequest:
    """The run of a version that cannot be told from an earlier one, by HEAD, but is another one."""
    written = str(seen.moment) if seen.exact else f"{request.received:.6f}"
    return replace(request, run_id=run_id_of(request.bucket, request.key, request.version, written=written))


def run_row(request: RunRequest, now: float) -> RunRow:
    """A new run, waiting to be started."""
    data: Any = _REQUEST.dump_python(request, mode="json")
    return RunRow(
        run_id=request.run_id,
        bucket=request.bucket,
        key=request.key,
        trigger=request.trigger.name,
        state="accepted",
        accepted=now,
        updated=now,
        request=data,
        share=share_of(request.bucket, request.key),
    )


def redriven(row: RunRow, number: int, now: float) -> RunRow:
    """An ended run again, as a new one: the same `number` makes the same run."""
    old = _REQUEST.validate_python(row.request)
    run_id = run_id_of(old.bucket, old.key, old.version, redrive=number)
    return run_row(replace(old, run_id=run_id, received=now, source=REDRIVE), now)
