"""The script that finds and runs servers, and what tests do where there is none."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from socket import SOCK_DGRAM
from threading import Thread
from typing import Any

import psutil
import psycopg
import pytest

from support.deadlines import HANG_S
from support.kept import KEEPING, VALUE
from support.processes import lives
from support.requirements import in_ci, require
from support.scripts import ROOT
from support.servers import create_database, install_command, servers

FORGETFUL = {"moto"}


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


def processes(server: Any) -> list[psutil.Process]:
    found = [psutil.Process(pid) for pid in server.pids]
    return found + [child for process in found for child in process.children(recursive=True)]


def sockets(process: psutil.Process) -> list[Any]:
    with contextlib.suppress(psutil.NoSuchProcess):  # a child may end at any time
        return process.net_connections("inet")
    return []


def listening(server: Any) -> list[Any]:
    """The addresses on which the server's processes and all their children wait for connections or datagrams."""
    found = [each for process in processes(server) for each in sockets(process)]
    return [
        ip_address(each.laddr.ip)
        for each in found
        if each.status == psutil.CONN_LISTEN or (each.type == SOCK_DGRAM and not each.raddr)
    ]


def wait_gone(wanted: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(wanted, timeout=HANG_S)
    assert [each for each in alive if lives(each)] == []


@pytest.mark.parametrize("name", servers.NAMES)
def test_a_server_is_alone_on_this_machine_and_comes_back_where_it_was_with_what_it_had(
    name: str, own_server: Callable[..., Any]
) -> None:
    server = own_server(name)
    assert listening(server)
    assert [each for each in listening(server) if not each.is_loopback] == []
    KEEPING[name].put(server)
    before, pids = server.url, set(server.pids)
    for end in (servers.stop, servers.kill):
        started = processes(server)
        end(server)
        wait_gone(started)
        assert servers.restart(server) is server
        assert server.url == before
        assert pids.isdisjoint(server.pids)
        pids.update(server.pids)
    if name in FORGETFUL:
        KEEPING[name].put(server)
    assert KEEPING[name].get(server) == VALUE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
@pytest.mark.parametrize("name", servers.NAMES)
def test_a_server_ends_with_whoever_started_it(name: str, tmp_path: Path) -> None:
    require(in_ci() or servers.find(name), f"No {name} server is installed.", install_command(name))
    code = (
        "import sys, pathlib; sys.path.insert(0, 'scripts'); import servers;"
        f"print(*servers.start({name!r}, pathlib.Path({str(tmp_path / 'data')!r})).pids, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        started = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert started
        started += [child for process in started for child in process.children(recursive=True)]
        parent.kill()
    wait_gone(started)


def test_a_server_that_was_started_by_a_thread_outlives_it(own_server: Callable[..., Any]) -> None:
    server = own_server("redis")
    thread = Thread(target=servers.restart, args=(server,))
    thread.start()
    thread.join(HANG_S)
    assert not thread.is_alive()
    KEEPING["redis"].put(server)
    assert KEEPING["redis"].get(server) == VALUE


def test_databases_of_one_server_are_apart(postgres_server: Any) -> None:
    first, second = create_database(postgres_server), create_database(postgres_server)
    with psycopg.connect(first) as one, psycopg.connect(second) as other:
        one.execute("CREATE TABLE here ()")
        one.commit()
        row = other.execute("SELECT to_regclass('here')").fetchone()
    assert row == (None,)


def test_a_server_that_cannot_start_says_why(own_server: Callable[..., Any], tmp_path: Path) -> None:
    own_server("redis")
    with pytest.raises(RuntimeError, match="no-such-option"):
        servers.start("redis", tmp_path / "broken", arguments=("--no-such-option", "1"))


@pytest.mark.parametrize(
    ("name", "remedy"), [("minio", "install Go"), ("nats", "install Go"), ("kafka", "default-jre-headless maven")]
)
def test_without_any_source_it_says_what_to_do(bare: dict[str, str], name: str, remedy: str) -> None:
    done = run("scripts/servers.py", "install", name, environment=bare)
    assert done.returncode == 1
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr
    assert run("scripts/servers.py", "path", name, environment=bare).returncode == 1


def test_what_can_be_had_without_root_is_tried_and_never_fails(bare: dict[str, str]) -> None:
    done = run("scripts/servers.py", "install", "possible", environment={**bare, "PIP_NO_INDEX": "1"})
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("ci", [False, True])
def test_a_missing_server_skips_here_and_fails_in_ci(bare: dict[str, str], ci: bool) -> None:
    environment = {**bare, "PYTHONPATH": str(ROOT), **({"CI": "true"} if ci else {})}
    wanted = "tests/contract/test_stores.py::test_another_bucket_is_not_found"
    done = run("-m", "pytest", "-p", "no:cacheprovider", "-q", wanted, environment=environment)
    lines = done.stdout.splitlines()
    if ci:
        assert done.returncode == 1, done.stdout
        assert "2 passed, 1 error" in lines[-1]
    else:
        assert done.returncode == 0, done.stdout
        assert "2 passed, 1 skipped" in lines[-1]
        where = next(i for i, line in enumerate(lines) if "could not be run here" in line)
        assert lines[where + 1] == "1 test: No minio server is installed."
        assert "python scripts/servers.py install minio" in lines[where + 2]
