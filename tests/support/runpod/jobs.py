"""A job as the provider keeps it, and every time a worker had it. Times are seconds of the event loop's clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]
FINAL: frozenset[Status] = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})

Outcome = Literal["running", "completed", "failed", "stopped", "crashed"]


@dataclass(slots=True)
class Execution:
    """One time a worker took the job: what is paid for. `outcome` is what that worker itself made of it.

    "completed" and "failed" answered, "failed" with an error. "stopped": told to stop, no answer came. "crashed": the
    process ended. "running": nothing is known of its end.
    """

    worker: str
    started: float
    ended: float | None = None
    outcome: Outcome = "running"
    error: str = ""


@dataclass(slots=True, eq=False)
class Job:
    """`output` is the final one, or the last progress while it runs. `webhooks` are the answers to its posts."""

    id: str
    input: Any
    policy: dict[str, Any]
    webhook: str | None
    submitted: float
    status: Status = "IN_QUEUE"
    output: Any = None
    error: Any = None
    worker: str = ""
    started: float | None = None
    ended: float | None = None
    executions: list[Execution] = field(default_factory=list[Execution])
    progress: list[Any] = field(default_factory=list[Any])
    webhooks: list[int] = field(default_factory=list[int])
    retries: int = 0
    gone: bool = False
    """Deleted, lost or expired: the API answers 404. What its workers do is still counted here."""
    stuck: bool = False
    """Answers of its workers are thrown away."""
    lies: deque[dict[str, Any]] = field(default_factory=deque[dict[str, Any]])
    """What the next looks at it are told, over what is true; None leaves a field out. One look each."""

    @property
    def final(self) -> bool:
        return self.status in FINAL

    @property
    def taken(self) -> int:
        """How many times a worker took it."""
        return len(self.executions)

    @property
    def finished(self) -> int:
        """How many executions ran to their end and answered without an error: 1, if all goes as it should."""
        return sum(e.outcome == "completed" for e in self.executions)

    @property
    def delay_ms(self) -> int:
        return 0 if self.started is None else round((self.started - self.submitted) * 1000)

    @property
    def execution_ms(self) -> int:
        return 0 if self.started is None or self.ended is None else round((self.ended - self.started) * 1000)

    def document(self) -> dict[str, Any]:
        """What /status answers."""
        found: dict[str, Any] = {"id": self.id, "status": self.status}
        if self.started is not None:
            found |= {"delayTime": self.delay_ms, "workerId": self.worker}
        if self.ended is not None and self.started is not None:
            found["executionTime"] = self.execution_ms
        if self.output is not None:
            found["output"] = self.output
        if self.error:
            found["error"] = self.error
        return found

    def told(self) -> dict[str, Any]:
        """What the next look at it is answered: the truth, unless a lie is due."""
        found = self.document() | (self.lies.popleft() if self.lies else {})
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Auto:
    """Completes jobs without a worker process: each runs `after_s` seconds, `delay_s` after it was sent.

    `output(job)` is what a handler would return: `{"error": …}` fails the job.
    """

    after_s: float
    output: Callable[[Job], Any]
    delay_s: float = 0.0


@dataclass(slots=True)
class Call:
    """One request to the API, from its arrival on. `op` is run, status, cancel, retry, health or purge-queue.

    `answered` is the status it was answered with, `at` seconds since the epoch.
    """

    method: str
    path: str
    endpoint: str
    op: str
    job_id: str
    body: Any
    headers: dict[str, str]
    at: float
    answered: int = 0
    """0: not yet, or never."""
