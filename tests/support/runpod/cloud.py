"""The provider beside a test that is not asynchronous: its own thread and loop, with listeners that dispatch to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from minio import Minio

from gpu_dispatch.claims import claim_from_bytes
from support.deadlines import HANG_S
from support.installation import Installation, MinioDrops
from support.runpod.endpoint import Endpoint
from support.runpod.jobs import Auto, Job
from support.runpod.processes import Program, Worker
from support.runpod.queue import Provider, provider

T = TypeVar("T")

PRICE = 0.0002
"""US dollars a second at every endpoint of these tests that says nothing else."""


class Cloud:
    """What is asked of `provider` is asked in its thread: `of(lambda p: …)`. Workers live until the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, provider: Provider, stack: AsyncExitStack) -> None:
        self._loop = loop
        self._stack = stack
        self.provider = provider
        self.workers: list[Worker] = []

    def of(self, look: Callable[[Provider], T]) -> T:
        async def looked() -> T:
            return look(self.provider)

        return asyncio.run_coroutine_threadsafe(looked(), self._loop).result(HANG_S)

    def endpoint(self, id: str, *, workers_max: int = 3, auto: Auto | None = None) -> Endpoint:
        return self.of(lambda p: p.endpoint(id, workers_max=workers_max, auto=auto))

    def work(self, endpoint: Endpoint, program: Program, *, count: int = 1, **env: Any) -> Worker:
        """Real worker processes that have asked for work."""

        async def begun() -> Worker:
            return await self._stack.enter_async_context(endpoint.worker(program, count=count, **env))

        worker = asyncio.run_coroutine_threadsafe(begun(), self._loop).result(HANG_S)
        self.workers.append(worker)
        return worker

    def let_go(self, worker: Worker) -> None:
        """Ends its processes before the block does."""
        asyncio.run_coroutine_threadsafe(worker.stop(), self._loop).result(HANG_S)

    def jobs(self, endpoint: str) -> list[Job]:
        """All there have been, in the order they came."""
        return self.of(lambda p: list(p.endpoints[endpoint].jobs.values()))

    def ops(self, endpoint: str, op: str) -> int:
        """How many calls of one operation there were."""
        return self.of(lambda p: sum(call.op == op and call.endpoint == endpoint for call in p.calls))

    def waiting(self) -> list[str]:
        """Ids of jobs that have not ended, anywhere."""
        return self.of(lambda p: [j.id for e in p.endpoints.values() for j in e.jobs.values() if not j.final])

    def billed_s(self) -> float:
        """Seconds of execution of all jobs that have ended."""
        return self.of(lambda p: sum(j.execution_ms for e in p.endpoints.values() for j in e.jobs.values())) / 1000


@contextmanager
def cloud() -> Generator[Cloud]:
    """A provider in a thread of its own; its workers and itself end with the block."""
    ready: Future[Cloud] = Future()
    done = threading.Event()

    async def serve() -> None:
        try:
            async with provider() as serving, AsyncExitStack() as stack:
                ready.set_result(Cloud(asyncio.get_running_loop(), serving, stack))
                await asyncio.to_thread(done.wait)
        except BaseException as e:
            if not ready.done():
                ready.set_exception(e)
            raise

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="provider")
    thread.start()
    try:
        yield ready.result(HANG_S)
    finally:
        done.set()
        thread.join(HANG_S)


def runpod(name: str, *capabilities: str, **changes: Any) -> dict[str, Any]:
    """An endpoint of the configuration; its id is its name."""
    does = list(capabilities) or ["whisper", "nvenc"]
    return {"kind": "runpod", "name": name, "id": name, "capabilities": does, "price": PRICE, **changes}


def installed(
    folder: Path, there: Cloud, server: Any, client: Minio, bucket: str, *endpoints: dict[str, Any], **parts: Any
) -> Installation:
    """A gpudrop, not started, that dispatches to `endpoints`."""
    config: dict[str, Any] = {
        "store": {"kind": "s3", "endpoint": server.endpoint, "buckets": [bucket]},
        "state": str(folder / "state"),
        "runpod": {"api": there.provider.url, "management": there.provider.url},
        "endpoints": list(endpoints),
        "triggers": [],
        **parts,
    }
    environ = {
        "GPUDROP_S3_ACCESS_KEY": server.access_key,
        "GPUDROP_S3_SECRET_KEY": server.secret_key,
        "GPUDROP_RUNPOD_API_KEY": there.provider.api_key,
    }
    return Installation(folder, MinioDrops(client, bucket), config, environ)


def pending(drops: MinioDrops) -> set[str]:
    """What attempts have left in the bucket, but for claims that are withdrawn: those stay for some minutes."""
    left = {key for key in drops.listing() if key.startswith(".gpudrop/jobs/")}
    return {key for key in left if not _is_withdrawn(drops.get(key) or b"")}


def _is_withdrawn(data: bytes) -> bool:
    claim = claim_from_bytes(data)
    return claim is not None and claim.withdrawn
