"""Retries of calls: all retry policies of the program, carried out by tenacity."""

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
    """How often, for how long and how far apart a call is retried. Times are seconds."""

    first_s: float
    """Bound of the wait after the first failure; it doubles with each failure in a row."""
    longest_s: float
    """Largest bound of a wait."""
    attempts: int | None = None
    """Includes the first one; None: no limit."""
    total_s: float | None = None
    """Counts from the first attempt; the last wait ends with it."""
    jitter: bool = True
    """Waits are uniform between 0 and the bound, so that calls that failed together do not return together."""
    healthy_s: float | None = None
    """The failure of a call that lasted longer counts as a first one."""

    def wait_s(self, failures: int, rng: random.Random) -> float:
        """Returns the wait after so many failures in a row, counted from 1."""
        backoff = Backoff(self.first_s, self.longest_s)
        return backoff.delay(failures, rng) if self.jitter else backoff.bound(failures)

    def is_over(self, attempts: int, elapsed_s: float) -> bool:
        """Returns whether no attempt follows so many."""
        late = self.total_s is not None and elapsed_s >= self.total_s
        return late or (self.attempts is not None and attempts >= self.attempts)


TRANSFER = RetryPolicy(1.0, 15.0, attempts=5)
"""Transfer of a file or document by URL."""
TRUSTED_TRANSFER = RetryPolicy(1.0, 15.0, attempts=14)
"""The same at a trusted host such as the store: a minute and more, because a result lost there has been paid for."""
RUNPOD_READ = RetryPolicy(0.5, 5.0, total_s=20.0)
"""A call to RunPod that may be made twice without harm."""
RUNPOD_RESTART = RetryPolicy(0.5, 5.0, attempts=3)
"""Return of a failed job to RunPod's queue."""
JOB_STATUS = RetryPolicy(0.5, 30.0)
"""Request for a job's status; its follower sets the deadline."""
RUN_STEP = RetryPolicy(0.5, 30.0)
"""Calls of an accepted run to the store and the ledger."""
INBOX = RetryPolicy(0.2, 30.0)
"""Delivery of events to the inbox."""
CALLBACK_RECORD = RetryPolicy(1.0, 1.0, total_s=30.0, jitter=False)
"""Record of a callback's outcome, within its lease."""
CLUSTER_SESSION = RetryPolicy(0.2, 2.0)
"""Return to a listener's place in the cluster after its session has ended."""
READINESS = RetryPolicy(0.5, 15.0)
"""First contact with the store."""
LISTING = RetryPolicy(1.0, 60.0)
"""Listing of a bucket, or of the buckets."""
BROKER = RetryPolicy(0.5, 15.0)
"""Connection to a broker that is away."""
BROKER_REFUSED = RetryPolicy(5.0, 60.0)
"""The same after an error that lasts until somebody acts."""
QUEUE = RetryPolicy(0.5, 30.0, healthy_s=60.0)
"""Receipt from an SQS queue that is away."""
QUEUE_REFUSED = RetryPolicy(5.0, 180.0, jitter=False)
"""The same after a lasting error; `probe_s` of the source's settings replaces the longest wait."""
QUEUE_DELETE = RetryPolicy(0.2, 5.0, attempts=6)
"""Deletion of recorded messages from their queue."""
STREAM = RetryPolicy(0.5, 30.0, healthy_s=10.0)
"""MinIO's event stream."""
STREAM_REFUSED = RetryPolicy(15.0, 180.0, jitter=False)
"""The same after a lasting error; `probe_s` of the source's settings replaces the longest wait."""
WEBHOOK_ADDRESS = RetryPolicy(0.5, 30.0)
"""Binding of the address that the webhook listens at."""
SECRET_COPY = RetryPolicy(1.0, 60.0)
"""Writing of a copy of the installation's secret."""
FOLDER_WATCH = RetryPolicy(1.0, 30.0, healthy_s=10.0)
"""Watch of a folder."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt that is followed by another one."""

    error: Exception
    wait_s: float
    """Seconds until the next attempt."""

    @property
    def gpudrop_error(self) -> GpuDropError:
        """`error` as a GpuDropError, for calls that retry no other errors."""
        assert isinstance(self.error, GpuDropError)
        return self.error


class Retries:
    """Retries one call under one policy, and counts failures in a row until the call succeeds.

    With `lasting`, errors that do not pass by themselves are retried under that policy.

    tenacity takes a function that merely returns an awaitable for a plain one, so work is always called through this
    class. A call that succeeds at once does not enter tenacity, which costs some 80 µs.
    """

    def __init__(
        self, policy: RetryPolicy, *, lasting: RetryPolicy | None = None, rng: random.Random | None = None
    ) -> None:
        self._policy = policy
        self._lasting = lasting
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._failures = self._lasting_failures = 0
        self._began = 0.0

    def reset(self) -> None:
        """Resets the count: the call works, and the next failure is a first one."""
        self._failures = self._lasting_failures = 0

    async def call(
        self,
        work: Callable[[], Awaitable[T]],
        *,
        on: Callable[[Exception], bool],
        on_failure: Callable[[Failure], object] | None = None,
        wait: Callable[[Failure], Awaitable[object]] | None = None,
    ) -> T:
        """Returns the result of `work`, retried after errors for which `on` is true; raises the last or another error.

        `on_failure` is called with every failure before its wait. `wait` replaces the sleep and may end earlier.
        """
        started = time.monotonic()
        try:
            return await self._attempt(work)
        except Exception as e:
            if not on(e):
                raise
            # A call that succeeds at once costs nothing more: tenacity starts with the first failure.
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
            if on_failure:
                on_failure(failure)

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
        # tenacity's types lose what a coroutine returns.
        return await cast("Callable[[Callable[[], Awaitable[T]]], Awaitable[T]]", retrying)(attempt)

    async def _attempt(self, work: Callable[[], Awaitable[T]]) -> T:
        self._began = time.monotonic()
        result = await work()
        self.reset()
        return result

    def _next_wait_s(self, error: Exception, elapsed_s: float) -> float:
        policy = self._policy
        if policy.healthy_s is not None and time.monotonic() - self._began > policy.healthy_s:
            self.reset()
        if self._lasting and isinstance(error, GpuDropError) and not error.retryable:
            self._lasting_failures += 1
            return self._lasting.wait_s(self._lasting_failures, self._rng)
        self._failures, self._lasting_failures = self._failures + 1, 0
        wait_s = policy.wait_s(self._failures, self._rng)
        return wait_s if policy.total_s is None else min(wait_s, max(0.0, policy.total_s - elapsed_s))


def is_known(error: Exception) -> bool:
    """Returns whether `error` is a GpuDropError: any other one is a defect, which no retry mends."""
    return isinstance(error, GpuDropError)
