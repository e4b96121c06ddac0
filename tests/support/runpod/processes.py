"""Worker processes: the real RunPod SDK, told by its environment that this provider is RunPod."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from support.deadlines import HANG_S

if TYPE_CHECKING:
    from support.runpod.endpoint import Endpoint

Program = Literal["real", "odd", "telling", "sdk", "whisper-hub", "worker-faster_whisper"]
"""real: our worker. odd: our worker with operations that misbehave. telling: with operations whose outputs say what
they were made of. sdk: `sdk_worker`, a handler of a few lines. The others: workers of third parties, whose answers are
recorded ones."""

WORKER_KEY = "worker-key-of-the-emulator"
ROOT = Path(__file__).parents[3]
MODULES: Mapping[Program, str] = {
    "real": "gpu_dispatch.worker",
    "odd": "support.runpod.odd",
    "telling": "support.histories.worker",
    "sdk": "support.runpod.sdk_worker",
    "whisper-hub": "support.runpod.recorded",
    "worker-faster_whisper": "support.runpod.recorded",
}
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "COVERAGE_PROCESS_START")


class Worker:
    """The processes of one `endpoint.worker(…)`; `ids` are what the provider knows them by."""

    def __init__(self, endpoint: Endpoint, program: Program, env: Mapping[str, str], *, restart: bool) -> None:
        self.ids: list[str] = []
        self.started = 0
        """Processes there have been, crashed ones included."""
        self._endpoint = endpoint
        self._program: Program = program
        self._env = env
        self._restart = restart
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._watching: set[asyncio.Task[None]] = set()
        # A pipe would stay open as long as the SDK's heartbeat process has it.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values()]

    @property
    def log(self) -> str:
        """What they wrote; "" after their end."""
        if self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    async def start(self) -> None:
        worker_id = f"worker-{uuid.uuid4().hex[:8]}"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            MODULES[self._program],
            cwd=ROOT,
            env=environment(self._endpoint, worker_id, self._program) | dict(self._env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._log,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_us,
        )
        self.ids.append(worker_id)
        self.started += 1
        self._processes[worker_id] = process
        watch = asyncio.create_task(self._watch(worker_id, process))
        self._watching.add(watch)
        watch.add_done_callback(self._watching.discard)

    def kill(self) -> None:
        """As a machine that goes dark: no farewell, nothing of it goes on."""
        for process in self._processes.values():
            _kill_group(process)

    async def stop(self) -> None:
        self._restart = False
        # Again, for a process that was just being started in the place of another.
        while self._processes or self._watching:
            for worker_id, process in list(self._processes.items()):
                self._processes.pop(worker_id)
                _kill_group(process)
                self._endpoint.worker_gone(worker_id, crashed=False)
                await process.wait()
            await asyncio.gather(*self._watching, return_exceptions=True)
        self._log.close()

    async def ready(self, within_s: float = HANG_S) -> None:
        """Returns when every process has asked for work. Raises RuntimeError with their log when one does not."""
        try:
            await self._endpoint.until(lambda: self._endpoint.workers >= set(self._processes), within_s)
        except TimeoutError as e:
            raise RuntimeError(f"The worker did not ask for work within {within_s:g} s:\n{self.log[-4000:]}") from e

    async def _watch(self, worker_id: str, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        if self._processes.pop(worker_id, None) is None:
            return
        # Its heartbeat process and what it started die with the container.
        _kill_group(process)
        self._endpoint.worker_gone(worker_id, crashed=True)
        if self._restart:
            await self.start()


def _die_with_us() -> None:
    """On Linux: a test run that is killed leaves no worker behind, which would ask for work as fast as it can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def environment(endpoint: Endpoint, worker_id: str, program: Program) -> dict[str, str]:
    """All that a worker's process is told; it has no other way to know where it is."""
    base = f"{endpoint.url}/workers/{endpoint.id}"
    mine = {name: os.environ[name] for name in KEPT if name in os.environ}
    return mine | {
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
        "PYTHONUNBUFFERED": "1",
        "EMULATED_WORKER": program,
        "RUNPOD_POD_ID": worker_id,
        "RUNPOD_ENDPOINT_ID": endpoint.id,
        "RUNPOD_AI_API_KEY": WORKER_KEY,
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=emulated",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=emulated",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=emulated",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID",
        "RUNPOD_PING_INTERVAL": "1000",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
        "NO_PROXY": "127.0.0.1,localhost",
    }


@asynccontextmanager
async def running_worker(
    endpoint: Endpoint, program: Program, *, count: int, restart: bool, env: Mapping[str, str]
) -> AsyncIterator[Worker]:
    """`count` processes of `program` that have asked for work, with `env` on top of what they are told anyway.

    One that ends by itself is a crash: the endpoint decides by `after_crash` what becomes of its job, and with
    `restart` another process takes its place. All are killed at the end, with everything they started.
    """
    worker = Worker(endpoint, program, env, restart=restart)
    try:
        for _ in range(count):
            await worker.start()
        await worker.ready()
        yield worker
    finally:
        await worker.stop()


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
