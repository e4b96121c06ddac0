"""Jobs as the ledger holds them, for tests."""

from __future__ import annotations

from dataclasses import replace

from listener.ledger.job_rows import JobRow
from listener.ledger.quotas import QuotaLimits

ANYTHING = QuotaLimits(None, None, None)


def job(entry: str, **changes: object) -> JobRow:
    """A job of run, task and attempt "ENTRY", 1; its estimate is a dollar."""
    base = JobRow(
        entry=entry,
        run_id=f"run-{entry}",
        task_id=f"run-{entry}-j0",
        attempt=1,
        bucket="bucket",
        key=f"{entry}.mp3",
        trigger="songs",
        operation="transcribe",
        detail="turbo",
        endpoint="fast",
        endpoint_id="",
        dialect="",
        job_id="",
        state="intended",
        usd_per_s=0.001,
        estimate_usd=1.0,
        usd=0.0,
        units=1e6,
        intended=0.0,
        sent=0.0,
        ended=0.0,
        delay_ms=0,
        execution_ms=0,
        outcome="",
    )
    return replace(base, **changes)  # pyright: ignore[reportArgumentType]
