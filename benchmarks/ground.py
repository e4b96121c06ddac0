"""What benchmarks stand on: the project's servers, and a listener whose every wait ends, with an error if need be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import yaml
from minio import Minio

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.scripts import ROOT, load_script

T = TypeVar("T")

HANG_S = 3600.0
servers = load_script("servers")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """p50 and p99."""
    found = statistics.quantiles(seconds, n=100, method="inclusive")
    return found[49], found[98]


@contextmanager
def disk() -> Generator[Path]:
    """A folder that is not in memory."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as name:
        yield Path(name)


@contextmanager
def minio(folder: Path, bucket: str) -> Generator[Any]:
    """A server of its own, with this bucket."""
    server = servers.start("minio", folder / "minio")
    try:
        Minio(server.host, server.access_key, server.secret_key, secure=False, region="us-east-1").make_bucket(bucket)
        yield server
    finally:
        servers.stop(server)


def store_of(server: Any, bucket: str) -> dict[str, Any]:
    """The configuration's `store`."""
    return {"kind": "s3", "endpoint": server.endpoint, "buckets": [bucket]}


def keys_of(server: Any) -> dict[str, str]:
    return {"GPUDROP_S3_ACCESS_KEY": server.access_key, "GPUDROP_S3_SECRET_KEY": server.secret_key}


def client_config(server: Any) -> Any:
    """What obstore's S3Store takes."""
    keys = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
    return {"endpoint": server.endpoint, "region": "us-east-1", **keys}


@dataclass
class Listener:
    """`gpudrop run`, and what it logs."""

    log: Path
    process: psutil.Popen

    def text(self) -> str:
        return self.log.read_text("utf-8")

    def entries(self, *named: str) -> list[dict[str, Any]]:
        """Entries whose lines hold each of these, as they are written: `"event": "run_done"`."""
        lines = (line for line in self.text().splitlines() if all(each in line for each in named))
        return [json.loads(line) for line in lines]

    async def until(self, look: Callable[[], T | None], what: str, *, pause_s: float = 0.5) -> T:
        """What `look` finds at last. Raises RuntimeError when the listener has ended, or hangs."""
        deadline = time.monotonic() + HANG_S
        while not (found := await asyncio.to_thread(look)):
            self.expect_running()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what}: not within {HANG_S:.0f} s:\n{self.text()[-5000:]}")
            await asyncio.sleep(pause_s)
        return found

    def expect_running(self) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"the listener ended:\n{self.text()[-5000:]}")

    def busy_s(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system

    @property
    def memory_mb(self) -> float:
        return self.process.memory_info().rss / 1e6


@asynccontextmanager
async def listening(folder: Path, config: dict[str, Any], said: Sequence[str], **keys: str) -> AsyncGenerator[Listener]:
    """A listener in `folder` that has logged each of `said`; it ends with the block."""
    (folder / "config.yaml").write_text(yaml.safe_dump({"state": str(folder / "state"), **config}))
    log = folder / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "listener", "run", "--config", str(folder / "config.yaml")]
        process = psutil.Popen(command, stderr=out, stdout=out, cwd=folder, env=environment(**keys))
    listener = Listener(log, process)
    try:
        await listener.until(lambda: all(each in listener.text() for each in said), "a listener", pause_s=0.1)
        await asyncio.sleep(2)
        yield listener
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
        try:
            process.wait(30)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(30)
