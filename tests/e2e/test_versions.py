"""Versions of one drop within a second: what lies in the store at the end is what the last word speaks of."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from minio.notificationconfig import NotificationConfig, QueueConfig

from support.installation import SAMPLES, FolderDrops, Installation, MinioDrops
from support.stores import admin_client, servers, start_minio
from support.webhook import TOKEN, minio_target

TRIES = 10


def mux(output: str) -> bytes:
    return json.dumps({"video": "clip.mp4", "audio": "chord.ogg", "output_filename": output}).encode()


A, B = mux("a.mp4"), mux("b.mp4")


@pytest.fixture(scope="module")
def posting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, int]]:
    """A MinIO that posts to a port beside its own stream, and at once: its queue would take a second."""
    folder, (port,) = tmp_path_factory.mktemp("posting"), servers.free_ports(1)
    server = start_minio("minio", folder, environment=minio_target(port, folder, queue_dir=""))
    yield server, port
    servers.stop(server)


@pytest.fixture(params=["stream", "webhook", "both"])
def told(request: pytest.FixtureRequest, tmp_path: Path, posting: tuple[Any, int]) -> Iterator[Installation]:
    """An installation on MinIO that hears of its drops in one way, or in all."""
    server, port = posting
    client, bucket = admin_client(server), f"versions-{request.param}-{time.time_ns()}"
    client.make_bucket(bucket)
    ways = {"stream": ["minio"], "webhook": [{"kind": "webhook", "listen": f"127.0.0.1:{port}", "path": "/minio"}]}
    sources = ways.get(request.param) or ways["stream"] + ways["webhook"]
    if request.param != "stream":
        queue = QueueConfig(queue="arn:minio:sqs::W:webhook", events=["s3:ObjectCreated:*", "s3:ObjectRemoved:*"])
        client.set_bucket_notification(bucket, NotificationConfig(queue_config_list=[queue]))
    config = {
        "store": {"kind": "s3", "endpoint": server.endpoint, "buckets": [bucket]},
        "state": str(tmp_path / "state"),
        "sources": [*sources, "reconcile"],
        "triggers": [],
    }
    keys = {"GPUDROP_S3_ACCESS_KEY": server.access_key, "GPUDROP_S3_SECRET_KEY": server.secret_key}
    installation = Installation(tmp_path, MinioDrops(client, bucket), config, keys | {"GPUDROP_WEBHOOK_TOKEN": TOKEN})
    put_media(installation)
    installation.start()
    if request.param != "webhook":
        installation.until(lambda: installation.logged("stream_connected"))
    yield installation
    installation.close()


def put_media(install: Installation) -> None:
    for name in ("clip.mp4", "chord.ogg"):
        install.drops.put(name, (SAMPLES / "media" / name).read_bytes())


def accepted(install: Installation, key: str) -> list[str]:
    return [entry["run_id"] for entry in install.logged("run_accepted") if entry["key"] == key]


def accept(install: Installation, key: str, runs: int) -> None:
    install.until(lambda: len(accepted(install, key)) >= runs)


def within_a_second(install: Installation, work: Callable[[str], None]) -> str:
    """The key with which `work` began and ended in one second of the store's clock, which is this machine's."""
    for n in range(TRIES):
        time.sleep(1.02 - time.time() % 1)
        key, second = f"k{n}.job.json", int(time.time())
        work(key)
        drops = cast(MinioDrops, install.drops)
        last = drops.client.stat_object(drops.bucket, key).last_modified
        if last and int(last.timestamp()) == second:
            return key
        # Its outputs are the next one's to write.
        drops.delete(key)
    pytest.fail("nothing was over within a second")


def last_word(install: Installation, key: str, runs: int, output: str) -> None:
    """The last of exactly `runs` runs speaks, and of the version with this output."""
    accept(install, key, runs)

    def look() -> dict[str, Any] | None:
        done = install.document(key, "done")
        return done if done and done["run_id"] == accepted(install, key)[-1] else None

    done = install.until(look)
    assert [o["key"] for o in done["outputs"]] == [output]
    assert install.document(key, "error") is None
    assert len(accepted(install, key)) == runs


def test_the_first_version_again_after_another_one(told: Installation) -> None:
    def work(key: str) -> None:
        for runs, version in enumerate((A, B, A)):
            accept(told, key, runs)
            told.drops.put(key, version)

    key = within_a_second(told, work)
    last_word(told, key, 3, "a.mp4")
    told.stop()
    told.start()
    told.drops.put("other.job.json", B)
    told.done("other.job.json")
    assert len(accepted(told, key)) == 3


def test_dropped_again_after_its_removal(told: Installation) -> None:
    def work(key: str) -> None:
        told.drops.put(key, A)
        accept(told, key, 1)
        told.drops.delete(key)
        told.until(
            lambda: (
                [e for e in told.logged("run_cancelled") if e["run_id"] == accepted(told, key)[0]]
                or _removed(told, key)
            )
        )
        told.drops.put(key, A)

    last_word(told, within_a_second(told, work), 2, "a.mp4")


def test_the_same_bytes_again(told: Installation) -> None:
    def work(key: str) -> None:
        told.drops.put(key, A)
        accept(told, key, 1)
        told.drops.put(key, A)

    last_word(told, within_a_second(told, work), 2, "a.mp4")


def test_listings_alone_see_what_is_there_at_the_end(minio_install: Installation) -> None:
    install = minio_install
    put_media(install)
    install.start(sources=["reconcile"], reconcile={"interval": "1s"}, triggers=[])

    def work(key: str) -> None:
        for version in (A, B, A):
            install.drops.put(key, version)

    key = within_a_second(install, work)
    install.until(lambda: (d := install.document(key, "done")) and [o["key"] for o in d["outputs"]] == ["a.mp4"])
    assert len(accepted(install, key)) == 1


def test_a_file_moved_away_and_back(folder_install: Installation) -> None:
    """Not one byte or nanosecond differs."""
    install, root = folder_install, cast(FolderDrops, folder_install.drops).root
    put_media(install)
    install.start(triggers=[])
    install.until(lambda: install.logged("folder_watched"))
    install.drops.put("k.job.json", A)
    accept(install, "k.job.json", 1)
    (root / "k.job.json").rename(root / ".k")
    # Its run may find it gone by itself, before the removal is told.
    install.until(lambda: install.logged("run_cancelled") or _removed(install, "k.job.json"))
    (root / ".k").rename(root / "k.job.json")
    last_word(install, "k.job.json", 2, "a.mp4")


def _removed(install: Installation, key: str) -> bool:
    return any(e["key"] == key and e["outcome"] == "removed" for e in install.logged("event_ended"))
