"""The key of each attempt, from which its claim and its answer are believed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gpu_dispatch.seals import attempt_key
from listener.ledger.jobs import JobLedger
from listener.ledger.secrets import FORMER_S, SecretSpec


class AttemptKeys:
    """`secrets` gives the one in force and those that it replaced, newest first; `clock` gives epoch seconds."""

    def __init__(
        self, secrets: Callable[[], Awaitable[tuple[SecretSpec, ...]]], jobs: JobLedger, clock: Callable[[], float]
    ) -> None:
        self._secrets = secrets
        self._jobs = jobs
        self._clock = clock

    async def of(self, task_id: str, attempt: int) -> bytes:
        """Of the secret that was in force when the attempt's first job was sent. Raises StoreUnavailable."""
        newest, *former = await self._secrets()
        if former and self._clock() <= newest.created + FORMER_S:
            sent = await self._first(task_id, attempt)
            if sent is not None and sent < newest.created:
                newest = next((each for each in former if each.created <= sent), former[-1])
        return attempt_key(newest.value, task_id, attempt)

    async def is_older(self, task_id: str, attempt: int) -> bool:
        """Whether the attempt's first job was sent before there were keys: its workers sign nothing."""
        oldest = (await self._secrets())[-1]
        if self._clock() > oldest.created + FORMER_S:
            return False
        sent = await self._first(task_id, attempt)
        return sent is not None and sent < oldest.created

    async def _first(self, task_id: str, attempt: int) -> float | None:
        """When the attempt's first job was meant to be sent; None: there has been none."""
        return min((row.intended for row in await self._jobs.of_attempt(task_id, attempt)), default=None)
