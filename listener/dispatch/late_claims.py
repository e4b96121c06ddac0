"""Claims of attempts that are done, kept for a while: a provider may run a job again that has ended."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from listener.dispatch.marks import Marks
from listener.dispatch.request import JobRequest
from manifests.errors import GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

KEEP_S = 600.0
"""A queue gives a job to another worker when it has heard nothing of the first for a few minutes."""

EVERY_S = 15.0


@dataclass(frozen=True, slots=True)
class _Due:
    """Names alone: a request may hold megabytes of captions."""

    at: float
    bucket: str
    task_id: str
    attempt: int


class LateClaims:
    """What a crash makes this forget, the sweep removes. `now` is a clock that never goes back."""

    def __init__(self, marks: Marks, *, now: Callable[[], float]) -> None:
        self._marks = marks
        self._now = now
        self._due: deque[_Due] = deque()

    def add(self, request: JobRequest, attempt: int) -> None:
        self._due.append(_Due(self._now() + KEEP_S, request.bucket, request.task_id, attempt))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            while self._due and self._due[0].at <= self._now():
                due = self._due.popleft()
                try:
                    await self._marks.drop(due.bucket, due.task_id, due.attempt, "claim")
                except GpuDropError as e:
                    log.info("claim_left", task=due.task_id, code=e.info.code, error=str(e))
