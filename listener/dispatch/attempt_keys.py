"""The key of each attempt, from which its claim and its answer are believed."""

from __future__ import annotations

from collections.abc import Callable

from gpu_dispatch.seals import attempt_key
from listener.ledger.jobs import JobLedger
from listener.ledger.secrets import Secret

NAME = "attempts"
"""The secret's, in the ledger."""

_LONGEST_S = 2 * 86_400.0
"""After this nothing goes on that was sent without a key: the longest link has ended."""


class AttemptKeys:
    """`secret` is the installation's; `clock` gives epoch seconds."""

    def __init__(self, secret: Secret, jobs: JobLedger, clock: Callable[[], float]) -> None:
        self._secret = secret
        self._jobs = jobs
        self._clock = clock

    def of(self, task_id: str, attempt: int) -> bytes:
        return attempt_key(self._secret.value, task_id, attempt)

    async def is_older(self, task_id: str, attempt: int) -> bool:
        """Whether the attempt's first job was sent before there were keys: its workers sign nothing."""
        if self._clock() > self._secret.created + _LONGEST_S:
            return False
        rows = await self._jobs.of_attempt(task_id, attempt)
        return any(row.intended < self._secret.created for row in rows)
