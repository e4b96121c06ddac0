"""PostgreSQL goes away, or does what it was asked and is not heard: nothing is lost, nothing doubled."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from support.deadlines import HANG_S
from support.forgetful import Forgetful
from support.installation import MinioDrops
from support.servers import create_database
from support.several import MUX, SLOW, Several
from support.stores import servers

NOBODYS = """INSERT INTO gpudrop_inbox
(bucket, key, created, source, received, generation, attempts, not_before, member)
VALUES (%s, %s, true, 'test', extract(epoch FROM now()), 1, 0, extract(epoch FROM now()) + 500, '') RETURNING key"""
"""A key that waits for a claim, as soon as it is told of."""


def test_a_database_that_goes_away_under_two(
    tmp_path: Path, minio_server: Any, minio_client: Minio, minio_bucket: str, own_server: Callable[..., Any]
) -> None:
    """Once asked to end, once killed; drops come before, meanwhile and after."""
    postgres = own_server("postgres")
    several = Several(tmp_path, minio_server, MinioDrops(minio_client, minio_bucket), create_database(postgres))
    keys = [f"burst/{i:03}.job.yaml" for i in range(400)]
    try:
        one, two = several.add(concurrent_runs=400), several.add(concurrent_runs=400)
        several.start(one, two)
        several.put_media()
        several.drops.put("slow.job.json", SLOW)
        run_id = one.running("slow.job.json", percent=12)["run_id"]

        def dropped(n: int) -> None:
            if n == 50:
                servers.stop(postgres)
            if n == 250:
                servers.kill(postgres)
            if n in (200, 400):
                time.sleep(4.0)
                servers.restart(postgres)

        several.drop(keys, dropped)
        several.until(lambda: several.runs_by_key().keys() >= set(keys) and len(several.told()) == len(keys) + 1)
        assert one.done("slow.job.json")["run_id"] == run_id
        several.drops.put("after.job.json", MUX)
        one.done("after.job.json")
        assert several.runs_by_key() == dict.fromkeys([*keys, "slow.job.json", "after.job.json"], 1)
        for each in (one, two):
            assert each.process
            assert each.process.poll() is None, each.log_text()[-4000:]
    finally:
        several.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO gpudrop_inbox",
        "UPDATE gpudrop_inbox SET member",
        "DELETE FROM gpudrop_inbox",
        "UPDATE gpudrop_runs SET member",
    ],
)
def test_what_was_recorded_although_nobody_heard(
    tmp_path: Path, minio_server: Any, minio_client: Minio, minio_bucket: str, postgres_url: str, statement: str
) -> None:
    """The database did what it was asked, and the connection broke before it said so."""
    several = Several(tmp_path, minio_server, MinioDrops(minio_client, minio_bucket), postgres_url)
    forgetful = Forgetful(several.url)
    try:
        listener = several.add(state=forgetful.url)
        listener.start()
        several.put_media()
        several.until(lambda: listener.logged("stream_connected") and several.leader())
        if statement.startswith("UPDATE gpudrop_inbox"):
            several.ask(NOBODYS, several.drops.bucket, "a.job.json")
        forgetful.forget(statement)
        several.drops.put("a.job.json", MUX)
        assert forgetful.forgotten.wait(HANG_S)
        listener.done("a.job.json")
        assert several.runs_by_key() == {"a.job.json": 1}
        several.until(lambda: not several.ask("SELECT key FROM gpudrop_inbox"))
    finally:
        several.close()
        forgetful.close()
