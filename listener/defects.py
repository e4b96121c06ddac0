"""What a user is told of an error that nobody foresaw: the log tells the rest."""

from __future__ import annotations

from manifests.errors import WorkerError

DEFECT = WorkerError("Something inside gpudrop went wrong.", hint="The listener's log says what; report it.").info
