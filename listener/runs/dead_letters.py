"""Builds the dead letter of a run that failed for good."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from listener.run_request import RunRequest
from listener.runs.jobs import AttemptRecord
from listener.runs.manifests import ResolvedManifest
from manifests.documents import AttemptNote, DeadLetter, JobNote, iso
from manifests.errors import ErrorInfo
from manifests.text import without_queries


def dead_letter(
    run: RunRequest,
    manifest: ResolvedManifest | None,
    error: ErrorInfo,
    attempts: Sequence[AttemptRecord],
    now: datetime,
) -> DeadLetter:
    return DeadLetter(
        run_id=run.run_id,
        key=run.key,
        event={
            "bucket": run.bucket,
            "key": run.key,
            "version": run.version,
            "source": run.source,
            "trigger": run.trigger.name,
            "received": iso(_when(run.received)),
        },
        error=error,
        failed=now,
        operation=manifest.operation if manifest else None,
        manifest=without_queries(manifest.text) if manifest and manifest.text else None,
        attempts=[_note(a) for a in attempts],
    )


def _note(attempt: AttemptRecord) -> AttemptNote:
    job = attempt.job
    return AttemptNote(
        task_id=attempt.task_id,
        number=attempt.number,
        started=_when(attempt.started),
        ended=_when(attempt.ended),
        job=JobNote(id=job.job_id, endpoint=job.backend) if job else None,
        error=attempt.error,
    )


def _when(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)
