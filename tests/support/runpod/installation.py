"""A whole gpudrop on RunPod: the real listener, the real MinIO, the provider in a thread, real worker processes.

    with runpod_installation(folder, minio_server, minio_client, bucket) as rp:
        rp.work(count=2)                       # odd workers at the endpoint "gpu"; work("real") for real ones
        rp.install.start()                     # the listener; rp.install is an `Installation`: stop, kill, done, …
        rp.faults(lambda f: f.on("run", reset(taken=True)))
        key = rp.drop("name", "wait-0.5")      # a transcription by an odd model: see support.odd_worker
        rp.install.done(key); rp.paid(key)     # executions that did work: an answer duplicate_job is none
        rp.jobs(key); rp.runs(key)             # the jobs the provider has been sent; how many requests there were
        rp.running(key)                        # the job, once a worker has it
        rp.of(lambda p: …)                     # anything else, in the provider's thread

`patched(folder, **environ)` gives the listener's processes a sitecustomize: `STOP_AT` kills one with SIGKILL "before"
or "after" a coroutine, `CLOCK` names a file with the seconds its wall clock is wrong.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from minio import Minio

from support.installation import Installation
from support.runpod.cloud import Cloud, cloud, installed, runpod
from support.runpod.endpoint import Endpoint
from support.runpod.faults import Faults
from support.runpod.jobs import Execution, Job
from support.runpod.processes import Program, Worker
from support.runpod.queue import Provider
from support.scripts import ROOT

T = TypeVar("T")

GPU = "gpu"
"""The endpoint's name, and its id at the provider."""

_NO_WORK = ("duplicate_job", "cancelled")

_SITECUSTOMIZE = """
import asyncio, functools, importlib, os, signal, time

if clock := os.environ.get("CLOCK"):
    true_time = time.time

    def wrong_time():
        with open(clock) as file:
            return true_time() + float(file.read() or 0)

    time.time = wrong_time

if stop_at := os.environ.get("STOP_AT"):
    when, place = stop_at.split(" ")
    module, cls, name = place.split(":")
    owner = getattr(importlib.import_module(module), cls)
    real = getattr(owner, name)

    @functools.wraps(real)
    async def stopping(*args, **kwargs):
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = await real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, name, stopping)
"""


@dataclass
class RunPodInstallation:
    install: Installation
    there: Cloud
    endpoint: Endpoint
    workers: list[Worker] = field(default_factory=list[Worker])

    def of(self, look: Callable[[Provider], T]) -> T:
        return self.there.of(look)

    def faults(self, change: Callable[[Faults], T]) -> T:
        return self.of(lambda p: change(p.faults))

    def work(self, program: Program = "odd", *, count: int = 1, **env: Any) -> Worker:
        """Workers at the endpoint; `restart=True`: one that dies is followed by another."""
        self.workers.append(self.there.work(self.endpoint, program, count=count, **env))
        return self.workers[-1]

    def drop(self, name: str, model: str = "quick", **more: Any) -> str:
        """A transcription named `name`, unique in this installation; its key."""
        key = f"{name}.job.json"
        asked = {"audio": "a.mp3", "model": f"{model}--{name}", "path": f"{name}/", **more}
        self.install.drops.put(key, json.dumps(asked).encode())
        return key

    def jobs(self, key: str) -> list[Job]:
        name = key.removesuffix(".job.json")
        every = self.there.jobs(self.endpoint.id)
        return [job for job in every if job.input["task"]["params"].get("model", "").partition("--")[2] == name]

    def runs(self, key: str) -> int:
        """Requests to run it that the provider has seen, taken or not."""

        def count(provider: Provider) -> int:
            calls = [call for call in provider.calls if call.op == "run" and call.endpoint == self.endpoint.id]
            models: list[str] = [call.body["input"]["task"]["params"].get("model", "") for call in calls]
            return sum(model.partition("--")[2] == key.removesuffix(".job.json") for model in models)

        return self.of(count)

    def worked(self, key: str) -> list[Execution]:
        """The executions that did work, or may have."""
        executions = [execution for job in self.jobs(key) for execution in job.executions]
        return [e for e in executions if not e.error.startswith(_NO_WORK)]

    def paid(self, key: str) -> int:
        return len(self.worked(key))

    def queued(self, key: str) -> Job:
        """Its first job, as soon as the provider has it."""
        return self.install.until(lambda: next(iter(self.jobs(key)), None))

    def running(self, key: str) -> Job:
        """Its job, as soon as a worker has it."""
        return self.install.until(lambda: next((job for job in self.jobs(key) if job.taken), None))

    def quiet(self, key: str) -> None:
        """Returns when no worker has anything more to do for `key`."""
        self.install.until(
            lambda: (
                all(e.outcome != "running" for job in self.jobs(key) for e in job.executions)
                and all(job.final or job.gone or job.stuck or job.taken for job in self.jobs(key))
            )
        )


def patched(folder: Path, **environ: str) -> dict[str, str]:
    """What a listener's environment needs for `STOP_AT` ("before listener.x:Class.method") and `CLOCK`."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    return {"PYTHONPATH": os.pathsep.join((str(site), str(ROOT))), **environ}


@contextmanager
def runpod_installation(
    folder: Path,
    server: Any,
    client: Minio,
    bucket: str,
    *endpoints: dict[str, Any],
    there: Cloud | None = None,
    **parts: Any,
) -> Generator[RunPodInstallation]:
    """Not started. `endpoints` default to one named `gpu`; `there` may be shared: then the endpoint's id is new.

    Everything that was begun ends with the block.
    """
    if there is None:
        with (
            cloud() as own,
            runpod_installation(folder, server, client, bucket, *endpoints, there=own, **parts) as made,
        ):
            yield made
        return
    id = f"{GPU}-{uuid.uuid4().hex[:8]}"
    endpoint = there.endpoint(id)
    given = endpoints or (runpod(GPU, id=id),)
    install = installed(folder, there, server, client, bucket, *given, **parts)
    install.drops.put("a.mp3", b"sound")
    made = RunPodInstallation(install, there, endpoint)
    try:
        yield made
    finally:
        install.close()
        for worker in made.workers:
            there.let_go(worker)


@contextmanager
def bucket_of_its_own(client: Minio) -> Generator[str]:
    """For fixtures that live longer than a test."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    client.make_bucket(name)
    yield name
    for each in client.list_objects(name, recursive=True):
        client.remove_object(name, each.object_name or "")
    client.remove_bucket(name)
