"""A worker on RunPod serverless: `python -m gpu_dispatch.worker`, configured by environment variables alone.

A job's input is {"task": TASK} or {"task_url": URL, "trusted_hosts": [HOST, …], "secret": KEY}. TASK is the task as
`task_to_wire` writes it; URL is a presigned GET of that JSON, sealed with KEY, and may have a private host only if it
is a trusted one.

`/status` of the job returns as `status`, `output` and `error`:
  while it runs          IN_PROGRESS  {"percent": 41.5, "stage": "encode"}
  done                   COMPLETED    {"result": RESULT}, as `result_to_wire` writes it
  done, large, stored    COMPLETED    {"answer": "stored"}: RESULT lies at the task's `answer_url`
  failed                 FAILED       {"result": RESULT} with an ErrorInfo as `error`; `error` is "code: message"
Input that is no task fails in the same way, with task_id "". A cancelled job sends nothing more.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from typing import Any, NoReturn

from gpu_dispatch.task import Progress, TaskParams
from gpu_dispatch.worker.child import end_group
from gpu_dispatch.worker.context import Operation
from gpu_dispatch.worker.environment import WorkerSettings, settings_from, start_logging
from gpu_dispatch.worker.fitness import Check, checks_of
from gpu_dispatch.worker.operations import Operations
from gpu_dispatch.worker.sdk import load_sdk
from gpu_dispatch.worker.serverless import ServerlessJobs
from manifests.errors import GpuDropError

LAST_ANSWER_S = 60.0
"""How long the SDK may take to send the last answer of a worker that ends."""


def serve(
    operations: Operation[TaskParams],
    settings: WorkerSettings,
    *,
    idle: Callable[[], Awaitable[None]],
    checks: tuple[Check, ...] = (),
) -> NoReturn:
    """Takes jobs until the SDK is told to stop, then exits. `checks` run first; one that raises ends the process."""
    sdk = load_sdk()
    config: dict[str, Any] = {"concurrency_modifier": _one}

    def refresh() -> None:
        """Makes the current answer the worker's last and ends the process after it, as hanging work blocks an exit."""
        config["refresh_worker"] = True
        threading.Thread(target=_end_when_answered, name="last-answer", daemon=True).start()

    config["handler"] = ServerlessJobs(
        operations, settings, post=_post, idle=idle, refresh=refresh, end=end_group
    ).__call__
    for check in checks:
        sdk.register_fitness_check(check)
    sdk.start(config)
    sys.exit(0)


def lead_group() -> None:
    """Makes this process the leader of a process group, so that `end_group` ends everything it has started."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)


def _end_when_answered() -> None:
    state: Any = import_module("runpod.serverless.modules.worker_state")
    deadline = time.monotonic() + LAST_ANSWER_S
    while state.JobsProgress().get_job_count() and time.monotonic() < deadline:
        time.sleep(0.1)
    end_group()


async def _post(job: Mapping[str, Any], progress: Progress) -> None:
    """Posts progress as the SDK's progress_update does, but not in a thread, so that its end can be awaited."""
    http: Any = import_module("runpod.serverless.modules.rp_http")
    client: Any = import_module("runpod.http_client")
    try:
        async with client.AsyncClientSession() as session:
            await http.send_result(session, {"status": "IN_PROGRESS", "output": asdict(progress)}, job)
    except (OSError, TimeoutError):
        return


def _one(_: int) -> int:
    """Allows one job at a time, as jobs would share one GPU."""
    return 1


def main() -> None:
    start_logging()
    lead_group()
    try:
        settings = settings_from(os.environ)
        operations = Operations(settings.operations)
        serve(operations, settings, idle=operations.idle, checks=checks_of(settings, operations))
    except GpuDropError as e:
        sys.exit(f"{e} {e.info.hint}".strip())


if __name__ == "__main__":
    main()
