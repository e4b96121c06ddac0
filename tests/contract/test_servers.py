"""The script that finds and runs servers, and what tests do where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from support.scripts import ROOT
from support.stores import admin_client, servers, start_minio

HANG_S = 120


def run(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment without any server, Go or containers."""
    return {"PATH": str(tmp_path), "HOME": str(tmp_path), "GPUDROP_CACHE": str(tmp_path)}


@pytest.mark.minio
def test_a_restarted_server_keeps_its_address_and_data(tmp_path: Path) -> None:
    server = start_minio("minio", tmp_path)
    try:
        assert psutil.pid_exists(server.pid)
        sockets = psutil.Process(server.pid).net_connections("tcp")
        listening = [ip_address(each.laddr.ip) for each in sockets if each.status == psutil.CONN_LISTEN]
        assert listening
        assert all(address.is_loopback for address in listening)
        admin_client(server).make_bucket("kept")
    finally:
        servers.stop(server)
    assert not psutil.pid_exists(server.pid)
    again = servers.restart(server)
    try:
        assert again.endpoint == server.endpoint
        assert [bucket.name for bucket in admin_client(again).list_buckets()] == ["kept"]
    finally:
        servers.stop(again)


@pytest.mark.minio
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
def test_a_server_ends_with_whoever_started_it(tmp_path: Path) -> None:
    assert servers.find("minio") or start_minio("minio", tmp_path / "unused")
    code = (
        "import os, sys, pathlib; sys.path.insert(0, 'scripts'); import servers;"
        f"print(servers.start('minio', pathlib.Path({str(tmp_path / 'data')!r})).pid, flush=True); os._exit(1)"
    )
    done = run("-c", code, environment=dict(os.environ))
    pid = int(done.stdout)
    try:
        gone = psutil.Process(pid)
        if gone.status() != psutil.STATUS_ZOMBIE:
            gone.wait(HANG_S)
    except psutil.NoSuchProcess:
        pass


def test_without_any_source_it_says_what_to_do(bare: dict[str, str]) -> None:
    done = run("scripts/servers.py", "install", "minio", environment=bare)
    assert done.returncode == 1
    assert "install Go" in done.stderr
    assert "Traceback" not in done.stderr
    assert run("scripts/servers.py", "path", "minio", environment=bare).returncode == 1


@pytest.mark.parametrize("ci", [False, True])
def test_a_missing_server_skips_here_and_fails_in_ci(bare: dict[str, str], ci: bool) -> None:
    environment = {**bare, "PYTHONPATH": str(ROOT), **({"CI": "true"} if ci else {})}
    wanted = "tests/contract/test_stores.py::test_another_bucket_is_not_found"
    done = run("-m", "pytest", "-p", "no:cacheprovider", "-q", wanted, environment=environment)
    lines = done.stdout.splitlines()
    if ci:
        assert done.returncode == 1, done.stdout
        assert "1 passed, 1 error" in lines[-1]
    else:
        assert done.returncode == 0, done.stdout
        assert "1 passed, 1 skipped" in lines[-1]
        where = next(i for i, line in enumerate(lines) if "could not be run here" in line)
        assert lines[where + 1] == "1 test: No minio server is installed."
        assert "python scripts/servers.py install minio" in lines[where + 2]
