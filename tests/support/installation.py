"""A whole gpudrop as a user has it: a configuration, a store, `gpudrop run` in a process of its own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psutil
import pytest
import yaml
from minio import Minio
from minio.error import S3Error

from support.deadlines import HANG_S
from support.scripts import ROOT
from support.warm import WarmProcess, warm_command

T = TypeVar("T")


SAMPLES = ROOT / "examples" / "samples"
AUDIO_TRIGGERS = yaml.safe_load((ROOT / "config.yaml").read_text())["triggers"]


class Drops(Protocol):
    """The store as its users see it."""

    def put(self, key: str, data: bytes) -> None: ...
    def get(self, key: str) -> bytes | None: ...
    def delete(self, key: str) -> None: ...
    def listing(self) -> set[str]: ...


@dataclass
class FolderDrops:
    root: Path

    def put(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def get(self, key: str) -> bytes | None:
        path = self.root / key
        return path.read_bytes() if path.is_file() else None

    def delete(self, key: str) -> None:
        (self.root / key).unlink()

    def listing(self) -> set[str]:
        files = (p.relative_to(self.root) for p in self.root.rglob("*") if p.is_file())
        return {p.as_posix() for p in files if p.parts[0] != ".gpudrop"}


@dataclass
class MinioDrops:
    client: Minio
    bucket: str

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(self.bucket, key, io.BytesIO(data), len(data))

    def get(self, key: str) -> bytes | None:
        try:
            return self.client.get_object(self.bucket, key).read()
        except S3Error as e:
            if e.code == "NoSuchKey":
                return None
            raise

    def delete(self, key: str) -> None:
        self.client.remove_object(self.bucket, key)

    def listing(self) -> set[str]:
        return {o.object_name or "" for o in self.client.list_objects(self.bucket, recursive=True)}


@dataclass
class Installation:
    folder: Path
    drops: Drops
    config: dict[str, Any]
    environ: dict[str, str]
    process: subprocess.Popen[bytes] | WarmProcess | None = None
    logs: list[Path] = field(default_factory=list)

    def start(self, **changes: Any) -> None:
        """`gpudrop run` until it says that it is ready. `changes` are top-level parts of the configuration."""
        self.begin(**changes)
        log = self.logs[-1]
        self.until(lambda: '"ready"' in log.read_text("utf-8") or (self.process and self.process.poll() is not None))
        assert '"ready"' in log.read_text("utf-8"), self.log_text()

    def begin(self, **changes: Any) -> None:
        """`gpudrop run`, not waited for. With a PYTHONPATH of its own in `environ` it starts from nothing."""
        self.config.update(changes)
        self.write_config()
        log = self.folder / f"log-{len(self.logs)}.jsonl"
        log.touch()
        self.logs.append(log)
        arguments = ["run", "--config", str(self.config_file)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), **self.environ}
        if "PYTHONPATH" in self.environ:
            command = [sys.executable, "-m", "listener", *arguments]
            with log.open("wb") as out:
                self.process = subprocess.Popen(command, stderr=out, cwd=self.folder, env=environ)
        else:
            self.process = WarmProcess(arguments, environ=environ, cwd=self.folder, stderr=log)

    def write_config(self) -> None:
        self.config_file.write_text(yaml.safe_dump({**self.config, "log": {"format": "json", "level": "debug"}}))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another `gpudrop` command on the same configuration. With a PYTHONPATH of its own it starts from nothing."""
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **self.environ}
        environ["GPUDROP_CONFIG"] = str(self.config_file)
        if "PYTHONPATH" not in self.environ:
            return warm_command(arguments, environ=environ, cwd=self.folder, timeout=HANG_S)
        return subprocess.run(
            [sys.executable, "-m", "listener", *arguments],
            capture_output=True,
            text=True,
            timeout=HANG_S,
            cwd=self.folder,
            env=environ,
            check=False,
        )

    def stop(self) -> float:
        """SIGTERM; how many seconds it took."""
        assert self.process
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(HANG_S)
        return time.monotonic() - began

    def kill(self) -> None:
        """kill -9, of the listener alone: what it started must notice by itself."""
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(HANG_S)

    def children(self) -> list[psutil.Process]:
        assert self.process
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def document(self, key: str, kind: str) -> dict[str, Any] | None:
        """The sidecar of the drop `key`, read whole."""
        name = key
        for suffix in (".job.json", ".job.yaml", ".job.yml", ".job.csv"):
            name = name.removesuffix(suffix)
        data = self.drops.get(f"{name}.{kind}.json")
        return json.loads(data) if data is not None else None

    def ended(self, key: str) -> dict[str, Any]:
        """The final sidecar of `key`, done or error, once it is there."""
        return self.until(lambda: self.document(key, "done") or self.document(key, "error"))

    def done(self, key: str) -> dict[str, Any]:
        document = self.ended(key)
        assert document["code"] == 200, document
        return document

    def failed(self, key: str) -> dict[str, Any]:
        document = self.ended(key)
        assert document["code"] != 200, document
        return document

    def running(self, key: str, *, percent: float = 0.0) -> dict[str, Any]:
        """The status of `key` once its job runs and has come so far."""

        def look() -> dict[str, Any] | None:
            status = self.document(key, "status")
            assert self.document(key, "done") is None, "it ended too early"
            return status if status and status["state"] == "running" and status["percent"] >= percent else None

        return self.until(look)

    def until(self, look: Callable[[], T | None]) -> T:
        deadline = time.monotonic() + HANG_S
        pause_s = 0.05
        while not (found := look()):
            assert time.monotonic() < deadline, f"nothing came of it\n{self.log_text()[-4000:]}"
            time.sleep(pause_s)
            # Each look at a store costs the test and the store some milliseconds of a core.
            pause_s = min(0.25, pause_s * 1.3)
        return found

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Log entries of this name, of every process this installation has had."""
        entries: list[dict[str, Any]] = []
        named = f'"event": "{event}"'
        for log in self.logs:
            text = log.read_text("utf-8")
            if named not in text:
                continue
            for line in text.splitlines():
                if named not in line:  # thousands of lines, and each is looked at again and again
                    continue
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if entry.get("event") == event:
                    entries.append(entry)
        return entries

    def log_text(self) -> str:
        return "\n".join(log.read_text("utf-8") for log in self.logs)

    @property
    def config_file(self) -> Path:
        return self.folder / "config.yaml"

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.stop()


def samples() -> dict[str, bytes]:
    """The demo's files by key, media first."""
    files = sorted(p for p in SAMPLES.rglob("*") if p.is_file())
    return {p.relative_to(SAMPLES).as_posix(): p.read_bytes() for p in sorted(files, key=lambda p: p.parent == SAMPLES)}


def folder_installation(folder: Path, environ: dict[str, str]) -> Installation:
    root = folder / "drop"
    root.mkdir()
    config = {"store": {"kind": "folder", "root": str(root)}, "triggers": AUDIO_TRIGGERS}
    return Installation(folder, FolderDrops(root), config, environ)


@pytest.fixture
def folder_install(tmp_path: Path) -> Iterator[Installation]:
    installation = folder_installation(tmp_path, {})
    yield installation
    installation.close()


@pytest.fixture
def minio_install(tmp_path: Path, minio_server: Any, minio_client: Minio, minio_bucket: str) -> Iterator[Installation]:
    config = {
        "store": {"kind": "s3", "endpoint": minio_server.endpoint, "buckets": [minio_bucket]},
        "state": str(tmp_path / "state"),
        "triggers": AUDIO_TRIGGERS,
    }
    keys = {"GPUDROP_S3_ACCESS_KEY": minio_server.access_key, "GPUDROP_S3_SECRET_KEY": minio_server.secret_key}
    installation = Installation(tmp_path, MinioDrops(minio_client, minio_bucket), config, keys)
    yield installation
    installation.close()


@pytest.fixture(params=["folder", "minio"])
def install(request: pytest.FixtureRequest) -> Installation:
    """An installation on each kind of store, not started yet."""
    return request.getfixturevalue(f"{request.param}_install")
