"""Calls that are tried again: the policies all stand here, and tenacity carries them out."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from gpu_dispatch.backoff import Backoff
from manifests.errors import GpuDropError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, for how long and how far apart a call is tried. Times are seconds."""

    first_s: float
    """Bound of the wait after the first failure; it doubles with each failure in a row."""
    longest_s: float
    attempts: int | None = None
    """The first one included; None: without end."""
    total_s: float | None = None
    """From the first attempt on; the last wait ends with it."""
    jitter: bool = True
    """A wait is uniform between 0 and its bound: those that failed together do not come back together."""
    healthy_s: float | None = None
    """A call that held for so long has been served: its failure counts as a first one."""

    def wait_s(self, failures: int, rng: random.Random) -> float:
        """After so many failures in a row, counted from 1."""
        backoff = Backoff(self.first_s, self.longest_s)
        return backoff.delay(failures, rng) if self.jitter else backoff.bound(failures)

    def is_over(self, attempts: int, elapsed_s: float) -> bool:
        """Whether no other attempt follows so many."""
        late = self.total_s is not None and elapsed_s >= self.total_s
        return late or (self.attempts is not None and attempts >= self.attempts)


TRANSFER = RetryPolicy(1.0, 15.0, attempts=5)
"""A file or document by URL."""
TRUSTED_TRANSFER = RetryPolicy(1.0, 15.0, attempts=14)
"""The same at a trusted host, the store above all: a minute and more, for what cannot be left there was paid for."""
RUNPOD_QUESTION = RetryPolicy(0.5, 5.0, total_s=20.0)
"""A call to RunPod that does no harm when it is made twice."""
RUNPOD_RESTART = RetryPolicy(0.5, 5.0, attempts=3)
"""A failed job, put into RunPod's queue again."""
JOB_STATUS = RetryPolicy(0.5, 30.0)
"""How a job stands: whoever follows it sets the deadline."""
RUN_STEP = RetryPolicy(0.5, 30.0)
"""What an accepted run needs of the store and the ledger."""
INBOX = RetryPolicy(0.2, 30.0)
"""Events, given to the inbox."""
CALLBACK_RECORD = RetryPolicy(1.0, 1.0, total_s=30.0, jitter=False)
"""What a callback came to, recorded within its lease."""
CLUSTER_PLACE = RetryPolicy(0.2, 2.0)
"""A listener's place, taken again after its session has ended."""
READINESS = RetryPolicy(0.5, 15.0)
"""The store, reached for the first time."""
LISTING = RetryPolicy(1.0, 60.0)
"""A bucket's listing, and the list of buckets."""
BROKER = RetryPolicy(0.5, 15.0)
BROKER_REFUSED = RetryPolicy(5.0, 60.0)
"""A connection to a broker: one that is away, and one that somebody has to mend."""
QUEUE = RetryPolicy(0.5, 30.0, healthy_s=60.0)
QUEUE_REFUSED = RetryPolicy(5.0, 180.0, jitter=False)
"""The same for an SQS queue; `probe_s` of its settings is the longest wait."""
QUEUE_DELETE = RetryPolicy(0.2, 5.0, attempts=6)
"""Messages that are recorded, deleted from their queue."""
STREAM = RetryPolicy(0.5, 30.0, healthy_s=10.0)
STREAM_REFUSED = RetryPolicy(15.0, 180.0, jitter=False)
"""The same for MinIO's event stream; `probe_s` of its settings is the longest wait."""
WEBHOOK_ADDRESS = RetryPolicy(0.5, 30.0)
"""The address that the webhook listens at."""
SECRET_COPY = RetryPolicy(1.0, 60.0)
"""A copy of the installation's secret, written."""
FOLDER_WATCH = RetryPolicy(1.0, 30.0, healthy_s=10.0)
"""The watch over a folder."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed and is followed by another one, `wait_s` seconds later."""

    error: Exception
    wait_s: float

    @property
    def known(self) -> GpuDropError:
        """`error`, where only errors of ours are retried."""
        assert isinstance(self.error, GpuDropError)
        return self.error


class Retries:
    """The retries of one call under one policy; failures in a row are counted until `served` is called.

    With `lasting`, errors that do not pass by themselves are retried under that policy.
    """

    def __init__(
        self, policy: RetryPolicy, *, lasting: RetryPolicy | None = None, rng: random.Random | None = None
    ) -> None:
        self._policy = policy
        self._lasting = lasting
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._failures = self._lasting_failures = 0
        self._began = 0.0

    def served(self) -> None:
        """Says that the call does what it should: the next failure is a first one."""
        self._failures = self._lasting_failures = 0

    async def call(
        self,
        work: Callable[[], Awaitable[T]],
        *,
        on: Callable[[Exception], bool],
        told: Callable[[Failure], object] | None = None,
        wait: Callable[[Failure], Awaitable[object]] | None = None,
    ) -> T:
        """What `work` returns, tried again after errors that `on` names; raises the last one, or another.

        `told` hears of every failure before the wait. `wait` waits instead of sleeping, and may end earlier.
        """
        started = time.monotonic()
        try:
            return await self._attempt(work)
        except Exception as e:
            if not on(e):
                raise
            # A call that goes well at once costs no more than itself: tenacity takes over with the first failure.
            first: Exception | None = e
            failure = Failure(e, 0.0)

        async def attempt() -> T:
            if first:
                raise first
            return await self._attempt(work)

        def is_retried(error: BaseException) -> bool:
            nonlocal first
            judged, first = first is not None, None
            return judged or (isinstance(error, Exception) and on(error))

        def next_wait(state: RetryCallState) -> float:
            nonlocal failure
            error = state.outcome.exception() if state.outcome else None
            assert isinstance(error, Exception)
            failure = Failure(error, self._next_wait_s(error, time.monotonic() - started))
            return failure.wait_s

        def tell(_: RetryCallState) -> None:
            if told:
                told(failure)

        async def sleep(seconds: float) -> None:
            await (wait(failure) if wait else asyncio.sleep(seconds))

        retrying = AsyncRetrying(
            retry=retry_if_exception(is_retried),
            stop=lambda state: self._policy.is_over(state.attempt_number, time.monotonic() - started),
            wait=next_wait,
            before_sleep=tell,
            sleep=sleep,
            reraise=True,
        )
        # Its own words for types lose what a coroutine returns.
        return await cast("Callable[[Callable[[], Awaitable[T]]], Awaitable[T]]", retrying)(attempt)

    async def _attempt(self, work: Callable[[], Awaitable[T]]) -> T:
        self._began = time.monotonic()
        result = await work()
        self.served()
        return result

    def _next_wait_s(self, error: Exception, elapsed_s: float) -> float:
        policy = self._policy
        if policy.healthy_s is not None and time.monotonic() - self._began > policy.healthy_s:
            self.served()
        if self._lasting and isinstance(error, GpuDropError) and not error.retryable:
            self._lasting_failures += 1
            return self._lasting.wait_s(self._lasting_failures, self._rng)
        self._failures, self._lasting_failures = self._failures + 1, 0
        wait_s = policy.wait_s(self._failures, self._rng)
        return wait_s if policy.total_s is None else min(wait_s, max(0.0, policy.total_s - elapsed_s))


def is_known(error: Exception) -> bool:
    """Whether `error` is one of ours: every other one is a defect, and no retry mends it."""
    return isinstance(error, GpuDropError)
