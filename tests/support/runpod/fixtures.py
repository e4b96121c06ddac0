"""Listeners that dispatch to the provider, for tests that are not asynchronous. A file may make `there` another one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from support.installation import Installation, samples
from support.runpod.cloud import Cloud, cloud, installed
from support.runpod.endpoint import Endpoint
from support.runpod.installation import RunPodInstallation, runpod_installation
from support.runpod.queue import Provider

Made = Callable[..., Installation]

GOOD = "good"


@pytest.fixture(scope="module")
def there() -> Iterator[Cloud]:
    with cloud() as there:
        yield there


@pytest.fixture
def rp(
    tmp_path: Path, there: Cloud, minio_server: Any, minio_client: Minio, minio_bucket: str
) -> Iterator[RunPodInstallation]:
    """A listener, not started, and an endpoint without workers."""
    with runpod_installation(tmp_path, minio_server, minio_client, minio_bucket, there=there) as rp:
        yield rp
        there.of(lambda p: p.faults.clear())


@pytest.fixture(scope="module")
def two_workers(there: Cloud) -> None:
    there.work(there.endpoint(GOOD), "odd", count=2)


@pytest.fixture
def good(there: Cloud, two_workers: None) -> Endpoint:
    """An endpoint where two workers do at once whatever comes, as if nothing had ever been sent to the provider."""

    def afresh(provider: Provider) -> Endpoint:
        provider.calls.clear()
        provider.faults.clear()
        for endpoint in provider.endpoints.values():
            endpoint.jobs.clear()
        return provider.endpoints[GOOD]

    return there.of(afresh)


@pytest.fixture
def made(
    tmp_path: Path, there: Cloud, good: Endpoint, minio_server: Any, minio_client: Minio, minio_bucket: str
) -> Iterator[Made]:
    """`made(*endpoints, **parts)`: a listener that is ready, with a.mp3 and a.jpg in its bucket."""
    del good
    every: list[Installation] = []

    def make(*endpoints: dict[str, Any], **parts: Any) -> Installation:
        folder = tmp_path / str(len(every))
        folder.mkdir()
        every.append(installed(folder, there, minio_server, minio_client, minio_bucket, *endpoints, **parts))
        every[-1].drops.put("a.mp3", b"sound")
        every[-1].drops.put("a.jpg", samples()["media/dawn.jpg"])
        every[-1].start()
        return every[-1]

    yield make
    for install in every:
        install.close()


def speech(install: Installation, name: str, model: str = "quick", audio: str = "a.mp3") -> str:
    """A transcription by an odd model (support.odd_worker), dropped; its key."""
    key = f"{name}.job.json"
    install.drops.put(key, json.dumps({"audio": f"/{audio}", "model": model, "path": f"{name}/"}).encode())
    return key
