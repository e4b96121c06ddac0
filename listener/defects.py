"""The error that users see after an unforeseen failure; the log has the details."""

from __future__ import annotations

from manifests.errors import WorkerError

DEFECT = WorkerError("Something inside gpudrop went wrong.", hint="The listener's log says what; report it.").info
