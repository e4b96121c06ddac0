"""MinIO built from source after October 2025 takes a listen request and never says a word: the real one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import urllib3
from structlog.testing import capture_logs

from listener.config.credentials import AccessKeys
from listener.ledger.database import Database
from listener.ledger.objects import ObjectLedger
from listener.sources.minio.request import MinioListenSettings
from listener.sources.minio.source import MinioListen, probe_stream
from listener.sources.reconcile.source import Reconcile, ReconcileSettings
from listener.stores.s3.store import S3Store
from support.sources import Recorder, running
from support.stores import admin_client, servers, settings_for, start_minio

pytestmark = pytest.mark.minio


@pytest.fixture
def silent_server(tmp_path: Path) -> Iterator[list[Any]]:
    """A server that the test may replace: the running one is always the last."""
    running_ = [start_minio("minio-head", tmp_path / "minio")]
    yield running_
    servers.stop(running_[-1])


def make_bucket(server: Any) -> None:
    """In its first moments MinIO asks clients to come back in a minute; it is there in one second."""
    retries = urllib3.Retry(total=20, backoff_factor=0.1, status_forcelist=[503], respect_retry_after_header=False)
    admin_client(server, http_client=urllib3.PoolManager(retries=retries)).make_bucket("drop")


def settings_of(server: Any) -> MinioListenSettings:
    """Short waits: what the server is asked for stays the same."""
    return MinioListenSettings(server.endpoint, ("drop",), ping_s=1, slack_s=1.0, probe_s=0.5)


async def test_a_probe_names_the_silence_and_its_remedy(silent_server: list[Any]) -> None:
    (server,) = silent_server
    make_bucket(server)
    told = await probe_stream(settings_of(server), lambda: AccessKeys(server.access_key, server.secret_key))
    assert (told.ok, told.code) == (False, "server_misbehaves")
    assert "never flushed" in told.detail
    assert "2025-10-15" in told.hint
    assert "reconcile" in told.hint


async def test_drops_are_found_in_silence_and_the_stream_is_taken_up_when_there_is_one(
    silent_server: list[Any], tmp_path: Path
) -> None:
    (server,) = silent_server
    make_bucket(server)
    store = S3Store(settings_for(server, "drop"))
    database = Database(f"sqlite:///{tmp_path}/ledger.sqlite")
    await database.open()
    ledger = ObjectLedger(database)
    reconcile = Reconcile(store, ledger, lambda bucket, key: True, ReconcileSettings(interval_s=3600))
    inbox = Recorder(on_gap=reconcile.request)
    keys = AccessKeys(server.access_key, server.secret_key)
    source = MinioListen(settings_of(server), lambda: keys)
    with capture_logs() as logs:
        async with running(inbox, source, reconcile):
            await inbox.until(lambda: any(condition.code == "server_misbehaves" for condition in inbox.conditions))
            await store.write("drop", "in-silence.mp3", b"x", content_type="")
            await inbox.until(lambda: inbox.created["in-silence.mp3"])
            servers.stop(server)
            silent_server.append(servers.restart(replace(server, name="minio")))
            await inbox.until(lambda: any("connected" in gap for gap in inbox.gaps))
            await store.write("drop", "heard.mp3", b"x", content_type="")
            await inbox.until(lambda: any((e.key, e.source) == ("heard.mp3", "minio") for e in inbox.events))
    assert next(line for line in logs if line["event"] == "no_stream")["code"] == "server_misbehaves"
    assert inbox.conditions[-1].ok
    assert "minio" not in {event.source for event in inbox.events if event.key == "in-silence.mp3"}
    await store.close()
    await database.close()


async def test_a_probe_says_that_events_arrive(minio_server: Any, minio_bucket: str) -> None:
    settings = replace(settings_of(minio_server), buckets=(minio_bucket,))
    told = await probe_stream(settings, lambda: AccessKeys(minio_server.access_key, minio_server.secret_key))
    assert told.ok
    assert minio_bucket in told.detail
    told = await probe_stream(settings, lambda: AccessKeys(minio_server.access_key, "wrong"))
    assert (told.ok, told.code) == (False, "store_denied")
    missing = replace(settings, ca_file=Path("/nowhere/ca.pem"))
    assert (await probe_stream(missing, lambda: AccessKeys("a", "b"))).code == "config_invalid"
