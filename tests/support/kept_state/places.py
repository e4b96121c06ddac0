"""Kept states at new places: a folder of this test, or a bucket and a provider of its own. Nothing is started."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from minio import Minio

from gpu_dispatch.task import GpuResult
from gpu_dispatch.worker.job import ExecutionOutcome
from gpu_dispatch.worker.serverless import wire
from listener.stores.base import ObjectMeta
from listener.stores.folder_files import file_meta_of
from listener.stores.s3.store import S3Store
from support.installation import FolderDrops, Installation, MinioDrops
from support.kept_state.documents import KeptObject, KeptState, Names, Restored, delta_of, named
from support.odd_worker import transcript
from support.runpod.cloud import Cloud
from support.runpod.endpoint import Endpoint
from support.runpod.jobs import FINAL, Execution, Job
from support.stores import settings_for

_GONE = "a-worker-of-then"


def in_folder(state: KeptState, folder: Path, receiver: str) -> Installation:
    """`receiver`: host and port of whoever takes callbacks."""
    root = folder / "drop"
    names = {"@RECEIVER@": receiver, "@DROP@": str(root), "@HOME@": str(folder)}
    later = delta_of(state)
    now: list[tuple[KeptObject, ObjectMeta]] = []
    for each in state.objects:
        path = root / each.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(each.content(names))
        os.utime(path, (each.modified + later, each.modified + later))
        now.append((each, file_meta_of(each.key, path.stat())))
    Restored(state, names, now).databases(folder)
    return Installation(folder, FolderDrops(root), _config(state, names), {})


def in_bucket(
    state: KeptState, folder: Path, receiver: str, server: Any, client: Minio, bucket: str, there: Cloud
) -> Installation:
    names = {
        "@RECEIVER@": receiver,
        "@STORE@": server.endpoint,
        "@BUCKET@": bucket,
        "@PROVIDER@": there.provider.url.removesuffix("/v2"),
        "@HOME@": str(folder),
    }
    drops = MinioDrops(client, bucket)
    for each in state.objects:
        drops.put(named(each.key, names), each.content(names))
    metas = asyncio.run(_metas(S3Store(settings_for(server, bucket)), state.objects))
    Restored(state, names, list(zip(state.objects, metas, strict=True))).databases(folder)
    environ = {
        "GPUDROP_S3_ACCESS_KEY": server.access_key,
        "GPUDROP_S3_SECRET_KEY": server.secret_key,
        "GPUDROP_RUNPOD_API_KEY": there.provider.api_key,
    }
    return Installation(folder, drops, _config(state, names), environ)


def at_provider(state: KeptState, endpoint: Endpoint) -> None:
    """Its jobs, as they were. In the provider's thread."""
    now = asyncio.get_running_loop().time()
    for known in state.jobs:
        job = Job(known["id"], known["input"], known["policy"], None, now, known["status"], known["output"])
        endpoint.jobs[job.id] = job
        if job.status != "IN_QUEUE":
            ended = now if job.final else None
            job.worker, job.started, job.ended = _GONE, now, ended
            job.executions.append(Execution(_GONE, now, ended, "completed" if job.final else "running"))


def work(endpoint: Endpoint, job: Job) -> None:
    """A worker of then has done the job and tells so. In the provider's thread."""
    assert job.status not in FINAL
    if not job.executions:
        job.started = asyncio.get_running_loop().time()
        job.executions.append(Execution(_GONE, job.started))
    result = GpuResult(job.input["task"]["task_id"], payload=transcript("of then"))
    endpoint.report(_GONE, job.id, {"output": wire(ExecutionOutcome(result))})


def states_of(install: Installation) -> dict[str, list[str]]:
    """States of each drop's runs, newest first, as the ledger has them."""
    found: dict[str, list[str]] = {}
    for key, state in _ask(install, 'SELECT "key", state FROM gpudrop_runs ORDER BY accepted DESC'):
        found.setdefault(key, []).append(state)
    return found


def jobs_of(install: Installation) -> Counter[str]:
    """How many jobs were sent for each drop."""
    return Counter(dict(_ask(install, 'SELECT "key", count(*) FROM gpudrop_jobs GROUP BY "key"')))


def _ask(install: Installation, query: str) -> list[tuple[Any, ...]]:
    ledgers = sorted(install.folder.rglob("ledger.sqlite"))
    with closing(sqlite3.connect(f"file:{ledgers[0]}?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()


async def _metas(store: S3Store, objects: tuple[KeptObject, ...]) -> list[ObjectMeta]:
    try:
        found = [await store.head(store.buckets[0], each.key) for each in objects]
    finally:
        await store.close()
    return [meta for meta in found if meta is not None]


def _config(state: KeptState, names: Names) -> dict[str, Any]:
    return json.loads(named(json.dumps(state.config), names))
