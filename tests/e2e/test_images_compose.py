"""The configurations of docker/ on a real store, and the container's health check on a real ledger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from minio import Minio

from listener.ledger.database import Database
from listener.ledger.sources import SourceLedger, SourceRow
from support.minio_users import Users
from support.scripts import ROOT

DOCKER = ROOT / "docker"
pytestmark = pytest.mark.minio


def check(name: str, tmp_path: Path, server: Any, client: Minio) -> subprocess.CompletedProcess[str]:
    """`gpudrop check` on a configuration of docker/, with the store and the folder that this test has."""
    config = yaml.safe_load((DOCKER / name).read_text("utf-8"))
    config["store"]["endpoint"] = server.endpoint
    config["state"] = str(tmp_path / "state")
    bucket = config["store"]["buckets"][0]
    keys_of_user = Users(server).user(json.loads((DOCKER / "minio-policy.json").read_text("utf-8")))
    if not client.bucket_exists(bucket):
        client.make_bucket(bucket)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    keys = {"GPUDROP_S3_ACCESS_KEY": keys_of_user.access_key, "GPUDROP_S3_SECRET_KEY": keys_of_user.secret_key}
    return subprocess.run(
        [sys.executable, "-m", "listener", "check", "--config", str(tmp_path / "config.yaml")],
        check=False,
        env={**{k: v for k, v in os.environ.items() if "RUNPOD" not in k}, **keys, "COLUMNS": "200"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_check_accepts_the_configuration_for_a_gpu_of_ones_own(
    tmp_path: Path, minio_server: Any, minio_client: Minio
) -> None:
    done = check("config.gpu.yaml", tmp_path, minio_server, minio_client)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "endpoint: local" in done.stdout


def test_check_accepts_all_of_the_configuration_for_runpod_but_the_key_that_is_missing(
    tmp_path: Path, minio_server: Any, minio_client: Minio
) -> None:
    done = check("config.compose.yaml", tmp_path, minio_server, minio_client)
    bad = [line for line in done.stdout.splitlines() if line.startswith("BAD")]
    assert len(bad) == 1, done.stdout + done.stderr
    assert "there is no API key" in bad[0]
    assert "ok   store: media" in done.stdout
    assert "ok   links: media: links are signed with temporary keys of each job" in done.stdout


def health(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DOCKER / "healthcheck.py")],
        check=False,
        env={**os.environ, "GPUDROP_CONFIG": str(config)},
        capture_output=True,
        text=True,
        timeout=60,
    )


async def test_a_container_is_well_while_every_source_is(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"state: {tmp_path / 'state'}\n")
    assert "no listener has used" in health(config).stdout
    (tmp_path / "state").mkdir()
    database = Database(f"sqlite:///{tmp_path / 'state' / 'ledger.sqlite'}")
    await database.open()
    try:
        sources = SourceLedger(database)
        assert health(config).returncode == 1
        well = SourceRow("one", "minio", True, "following", "", 1.0, {})
        await sources.put([well])
        assert health(config).returncode == 0
        await sources.put([SourceRow("one", "minio", False, "the store is away", "Start it.", 1.0, {})])
    finally:
        await database.close()
    ill = health(config)
    assert (ill.returncode, ill.stdout) == (1, "minio: the store is away\n")


def test_a_container_with_a_broken_configuration_is_ill_and_says_why(tmp_path: Path) -> None:
    done = health(tmp_path / "nothing.yaml")
    assert done.returncode == 1
    assert "There is no configuration" in done.stdout
