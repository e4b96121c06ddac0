"""How a task's files come and go: a folder both sides see, or a bucket and presigned addresses."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from minio import Minio
from minio.error import S3Error

from gpu_dispatch.task import GpuResult, GpuTask
from gpu_dispatch.wire import result_from_wire, task_to_wire
from support.stores import admin_client


class Files(Protocol):
    @property
    def trusted_hosts(self) -> tuple[str, ...]: ...

    def address(self, path: Path) -> str:
        """Where the worker finds a copy of `path`."""
        ...

    def missing(self) -> str:
        """An address where nothing is."""
        ...

    def target(self, name: str) -> str:
        """Where the worker leaves the output that `output(name)` gives."""
        ...

    def output(self, name: str) -> Path:
        """A path that exists when the worker has left `name`."""
        ...

    def answer_url(self, task_id: str) -> str | None:
        """Where the worker leaves the answer that `answer(task_id)` gives; None: nowhere."""
        ...

    def answer(self, task_id: str) -> GpuResult | None: ...

    def stored(self, task: GpuTask) -> str | None:
        """Where a worker finds `task` itself; None: it is always handed over."""
        ...


@dataclass(frozen=True)
class FolderFiles:
    root: Path
    trusted_hosts: tuple[str, ...] = ()

    def address(self, path: Path) -> str:
        copy = self.root / path.name
        if not copy.exists():
            shutil.copyfile(path, copy)
        return copy.as_uri()

    def missing(self) -> str:
        return (self.root / "missing").as_uri()

    def target(self, name: str) -> str:
        return self.output(name).as_uri()

    def output(self, name: str) -> Path:
        return self.root / "out" / name

    def answer_url(self, task_id: str) -> str | None:
        del task_id

    def answer(self, task_id: str) -> GpuResult | None:
        del task_id

    def stored(self, task: GpuTask) -> str | None:
        del task


class BucketFiles:
    """`folder` takes copies of what the worker left."""

    def __init__(self, server: Any, bucket: str, folder: Path) -> None:
        self.trusted_hosts: tuple[str, ...] = (server.host,)
        self._client: Minio = admin_client(server)
        self._bucket = bucket
        self._folder = folder

    def address(self, path: Path) -> str:
        key = f"in/{path.name}"
        self._client.fput_object(self._bucket, key, str(path))
        return self._client.presigned_get_object(self._bucket, key)

    def missing(self) -> str:
        return self._client.presigned_get_object(self._bucket, "in/missing")

    def target(self, name: str) -> str:
        return self._client.presigned_put_object(self._bucket, f"out/{name}")

    def output(self, name: str) -> Path:
        copy = self._folder / "left" / name
        data = self._read(f"out/{name}")
        if data is not None:
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(data)
        return copy

    def answer_url(self, task_id: str) -> str | None:
        return self._client.presigned_put_object(self._bucket, _answer(task_id))

    def answer(self, task_id: str) -> GpuResult | None:
        data = self._read(_answer(task_id))
        return None if data is None else result_from_wire(json.loads(data))

    def stored(self, task: GpuTask) -> str | None:
        key = f".gpudrop/jobs/{task.task_id}/task.json"
        data = json.dumps(task_to_wire(task), ensure_ascii=False).encode()
        self._client.put_object(self._bucket, key, io.BytesIO(data), len(data))
        return self._client.presigned_get_object(self._bucket, key)

    def _read(self, key: str) -> bytes | None:
        try:
            found = self._client.get_object(self._bucket, key)
        except S3Error as e:
            if e.code == "NoSuchKey":
                return None
            raise
        with found:
            return found.read()


def _answer(task_id: str) -> str:
    return f".gpudrop/jobs/{task_id}/1.answer"
