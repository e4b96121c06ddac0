"""The job handler for RunPod's SDK, its progress posts and the JSON of its results.

The SDK's `progress_update` starts a thread for each post that nobody awaits: posts overtake each other and the result,
and the last to arrive stays. So one task posts the newest progress through the SDK's `send_result`, which is private:
the SDK is pinned, and a test counts posts. RunPod makes a job FAILED when the handler returns a string `error`, which
is enough for its console and for a dispatcher without output; of an exception it would show a traceback in JSON. Output
is limited, and forgotten after 30 minutes.

A thread in a speech library cannot be stopped. The next job would wait for it, paid, and the SDK's heartbeat, a process
of its own, notices nothing. So a job that was cut short waits GPUDROP_STOP_GRACE_S (30 s) for its threads; then the
worker asks for a refresh (`refresh_worker` adds stopPod) and ends its process group once the SDK has sent the answer; a
cancelled one ends it at once. The provider's timeout must exceed a task's time plus twice the grace.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from gpu_dispatch.task import GpuResult, GpuTask, Progress, TaskParams
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.wire import result_to_wire
from gpu_dispatch.worker.claim import Identity
from gpu_dispatch.worker.context import Operation
from gpu_dispatch.worker.environment import WorkerSettings
from gpu_dispatch.worker.job import ExecutionOutcome, JobEnvironment, execute_job
from gpu_dispatch.worker.request import task_of
from manifests.errors import DuplicateJob, EngineUnavailable, GpuDropError, RunCancelled, TaskTimedOut, TransferFailed

POST_INTERVAL_S = 1.0
"""Interval between posts."""
FLUSH_S = 5.0
"""How long the end of a job waits for a pending post."""

Send = Callable[[Progress], Awaitable[None]]
"""Returns when the provider has received the progress, or never will."""


@asynccontextmanager
async def post_progress(
    send: Send, *, every_s: float = POST_INTERVAL_S, flush_s: float = FLUSH_S
) -> AsyncGenerator[Callable[[Progress], None]]:
    """Yields a thread-safe progress callback and posts the newest progress every `every_s` seconds.

    No post is pending on exit: a late one would reach the provider after the result and replace it.
    """
    posts = _ProgressPoster(send, every_s)
    posting = asyncio.create_task(posts.run())
    try:
        yield posts.offer
    finally:
        posts.close()
        await asyncio.wait({posting}, timeout=flush_s)
        posting.cancel()
        await asyncio.wait({posting})


class _ProgressPoster:
    def __init__(self, send: Send, every_s: float) -> None:
        self._send = send
        self._every_s = every_s
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._closed = asyncio.Event()
        self._newest: Progress | None = None

    def offer(self, progress: Progress) -> None:
        self._newest = progress
        self._loop.call_soon_threadsafe(self._news.set)

    def close(self) -> None:
        self._closed.set()
        self._news.set()

    async def run(self) -> None:
        while True:
            await self._news.wait()
            if self._closed.is_set():
                return
            self._news.clear()
            if self._newest is not None:
                await self._send(self._newest)
            try:
                async with asyncio.timeout(self._every_s):
                    await self._closed.wait()
            except TimeoutError:
                continue


_LOG = logging.getLogger("gpu_dispatch.worker")

INLINE_BYTES = 2_000_000
"""A larger result that lies in the store is not sent through RunPod's queue as well: it would be read twice."""
QUEUE_BYTES = 20_000_000
"""The largest result that RunPod's queue carries."""

_INTERRUPTED = frozenset({TaskTimedOut.code, RunCancelled.code, DuplicateJob.code})

Post = Callable[[Mapping[str, Any], Progress], Awaitable[None]]
"""Sends a job's progress and returns when it has arrived or failed. Raises nothing."""


class ServerlessJobs:
    """The handler for RunPod's SDK; asynchronous, so that the SDK's cancellation reaches it.

    `idle` returns when nothing of earlier jobs runs. `refresh` is called before the process's last result is returned;
    `end` kills the process at once with everything it started.
    """

    def __init__(
        self,
        operations: Operation[TaskParams],
        settings: WorkerSettings,
        *,
        post: Post,
        idle: Callable[[], Awaitable[None]],
        refresh: Callable[[], None],
        end: Callable[[], object],
    ) -> None:
        self._operations = operations
        self._settings = settings
        self._post = post
        self._idle = idle
        self._refresh = refresh
        self._end = end

    async def __call__(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Executes a job. Raises only CancelledError, once the job's processes have ended."""
        try:
            task = await task_of(job.get("input"), TransferLimits())
            self._check_capability(task)
        except GpuDropError as e:
            return wire(ExecutionOutcome(GpuResult(task_id="", error=e.info)))
        overdue = self._overdue_after(task.timeout_s + 2 * self._settings.stop_grace_s)
        try:
            ended = await self._finish(task, job)
        except asyncio.CancelledError:
            if not await self._wait_idle():
                _LOG.error("A cancelled job does not let go; the worker ends itself.")
                self._end()
            raise
        finally:
            overdue.cancel()
        if ended.result.error and ended.result.error.code in _INTERRUPTED and not await self._wait_idle():
            _LOG.error("A job that was cut short does not let go; the worker ends itself after this answer.")
            self._refresh()
        return await asyncio.to_thread(wire, ended)

    async def _finish(self, task: GpuTask, job: Mapping[str, Any]) -> ExecutionOutcome:
        settings = self._settings
        identity = Identity(str(job.get("id", "")), settings.endpoint_id, settings.worker)
        place = JobEnvironment(
            self._operations,
            settings.operations.work_root,
            identity=identity,
            check_interval_s=settings.check_interval_s,
        )
        async with post_progress(lambda progress: self._post(job, progress)) as offer:
            return await execute_job(task, place, offer)

    def _check_capability(self, task: GpuTask) -> None:
        if task.params.capability not in self._settings.capabilities:
            raise EngineUnavailable(
                f"This worker cannot do {task.params.operation}: it has no {task.params.capability}.",
                hint="Send it to an endpoint whose image can, or correct `capabilities` in config.yaml.",
                where=task.params.operation,
            )

    def _overdue_after(self, seconds: float) -> threading.Timer:
        """Starts a timer thread that ends the process after `seconds`, even when the event loop is blocked."""

        def over() -> None:
            _LOG.error("A job is far over its time and the worker does not react; it ends itself.")
            self._end()

        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), over)
        timer.daemon = True
        timer.start()
        return timer

    async def _wait_idle(self) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.stop_grace_s):
                await self._idle()
                return True
        return False


def wire(ended: ExecutionOutcome) -> dict[str, Any]:
    """Returns the handler's output, as described in `gpu_dispatch.worker.__main__`."""
    body = _body(ended.result)
    size = len(json.dumps(body, ensure_ascii=False).encode())
    if ended.stored and size > INLINE_BYTES:
        return {"answer": "stored"}
    if size <= QUEUE_BYTES:
        return body
    error = TransferFailed(
        f"The result has {size:,} bytes, more than RunPod's queue carries, and the store did not take it.",
        hint="Check that the store can be reached from RunPod.",
    )
    return _body(GpuResult(ended.result.task_id, error=error.info, execution_ms=ended.result.execution_ms))


def _body(result: GpuResult) -> dict[str, Any]:
    body: dict[str, Any] = {"result": result_to_wire(result)}
    if result.error:
        body["error"] = f"{result.error.code}: {result.error.message}"
    return body
