"""What can be wrong at the start is said in words, with a remedy and an exit status: never as a traceback."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.deadlines import HANG_S
from support.installation import Installation
from support.requirements import require
from support.scripts import ROOT
from support.servers import create_database
from support.webhook import free_port

FILES = ("ledger.sqlite", "engine.sqlite")


def refused(install: Installation, *before: str) -> str:
    """What `gpudrop run` says before it ends by itself; `before` is a program that starts it."""
    install.write_config()
    ran = subprocess.run(
        [*before, sys.executable, "-m", "listener", "run", "--config", str(install.config_file)],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        cwd=install.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **install.environ},
        check=False,
    )
    told = ran.stderr
    assert ran.returncode == 1, told
    assert "Traceback" not in told
    assert "Warning" not in told
    assert '"ready"' not in told
    lines = [line for line in told.splitlines() if not line.startswith("{")]
    assert len(lines) >= 2, told
    return "\n".join(lines)


@pytest.fixture
def state(folder_install: Installation) -> Path:
    folder = folder_install.folder / "state"
    folder_install.config["state"] = str(folder)
    return folder


@pytest.fixture
def used(folder_install: Installation, state: Path) -> Path:
    """A state folder that a listener has used."""
    folder_install.start(triggers=[])
    folder_install.stop()
    folder_install.logs.clear()
    return state


def test_a_state_that_is_no_folder(folder_install: Installation, state: Path) -> None:
    state.write_text("a file")
    assert refused(folder_install).startswith(f"state_unusable: The state folder {state}")
    folder_install.config["state"] = str(state / "below")
    assert refused(folder_install).startswith("state_unusable: ")


def test_a_state_folder_that_cannot_be_made(folder_install: Installation) -> None:
    folder_install.config["state"] = "/proc/gpudrop/state"
    assert refused(folder_install).startswith("state_unusable: The state folder /proc/gpudrop/state")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_database(folder_install: Installation, state: Path, name: str) -> None:
    state.mkdir()
    (state / name).write_bytes(b"no database at all " * 4000)
    told = refused(folder_install)
    assert told.startswith("state_unusable: ")
    assert str(state / name) in told
    assert "damaged" in told


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_database(folder_install: Installation, used: Path, name: str) -> None:
    with (used / name).open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * (used / name).stat().st_size)
    told = refused(folder_install)
    assert told.startswith("state_unusable: ")
    assert str(used / name) in told


@pytest.mark.parametrize("name", FILES)
def test_a_folder_where_a_database_should_be(folder_install: Installation, state: Path, name: str) -> None:
    (state / name).mkdir(parents=True)
    told = refused(folder_install)
    assert told.startswith("state_unusable: ")
    assert str(state / name) in told


@pytest.mark.parametrize("name", FILES)
def test_a_database_that_another_program_holds(folder_install: Installation, used: Path, name: str) -> None:
    with locked(used / name):
        told = refused(folder_install)
    assert told.startswith("state_unusable: ")
    assert "locked" in told


@contextmanager
def locked(path: Path) -> Generator[None]:
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


@pytest.fixture
def weak() -> tuple[str, ...]:
    """Runs a program to which permissions apply, whoever starts it."""
    if os.geteuid():
        return ()
    require(shutil.which("setpriv"), "setpriv is missing.", "apt-get install util-linux")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")


def test_what_may_not_be_written(folder_install: Installation, used: Path, weak: tuple[str, ...]) -> None:
    with read_only(used, *used.iterdir()):
        assert refused(folder_install, *weak).startswith("state_unusable: ")
    # The engine's first: what is made beside a file that may only be read may only be read itself.
    for name in reversed(FILES):
        with read_only(used / name):
            told = refused(folder_install, *weak)
            assert told.startswith("state_unusable: ")
            assert str(used / name) in told


def test_a_drop_folder_that_cannot_be_used(folder_install: Installation, state: Path, weak: tuple[str, ...]) -> None:
    root = Path(folder_install.config["store"]["root"])
    with read_only(root):
        told = refused(folder_install, *weak)
        assert str(root) in told
    (root / ".gpudrop" / "tmp").mkdir(parents=True)
    with read_only(root):
        assert str(root) in refused(folder_install, *weak)
    shutil.rmtree(root)
    root.write_text("a file")
    assert str(root) in refused(folder_install)


@contextmanager
def read_only(*paths: Path) -> Generator[None]:
    modes = {path: path.stat().st_mode for path in paths}
    for path in reversed(paths):
        path.chmod(0o555)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def test_a_disk_without_room(folder_install: Installation, state: Path) -> None:
    """As if every file were as large as it may become."""
    limit = shutil.which("prlimit")
    require(limit, "prlimit is missing.", "apt-get install util-linux")
    assert limit
    assert refused(folder_install, limit, "--fsize=0").startswith("state_unusable: ")


def test_a_configuration_that_cannot_be_read(folder_install: Installation, weak: tuple[str, ...]) -> None:
    folder_install.write_config()
    command = [sys.executable, "-m", "listener", "run", "--config"]
    unreadable = folder_install.folder / "unreadable.yaml"
    unreadable.write_bytes(b"\xff\xfe\x00")
    for path in (unreadable, folder_install.folder, folder_install.folder / "missing.yaml"):
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        ran = subprocess.run(
            [*command, str(path)], capture_output=True, text=True, env=environ, timeout=HANG_S, check=False
        )
        assert ran.returncode == 1
        assert ran.stderr.startswith("config_invalid: ")
        assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("command", [("status",), ("costs",), ("cancel", "x"), ("redrive", "x")])
def test_other_commands_say_it_too(folder_install: Installation, state: Path, command: tuple[str, ...]) -> None:
    state.mkdir()
    (state / "ledger.sqlite").write_bytes(b"no database at all " * 4000)
    folder_install.write_config()
    ran = folder_install.command(*command)
    assert ran.returncode == 1
    assert ran.stderr.startswith("state_unusable: ")
    assert "Traceback" not in ran.stderr


def test_postgresql_that_cannot_be_used(folder_install: Installation, postgres_server: Any) -> None:
    url = create_database(postgres_server)
    base, _, name = url.rpartition("/")
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"CREATE ROLE {name}_weak LOGIN PASSWORD 'weak'".encode())
        db.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    host = postgres_server.host
    cases = {
        f"postgresql://127.0.0.1:{free_port()}/x": "cannot be reached",
        f"{base}/there_is_none": "does not exist",
        f"postgresql://{name}_weak:wrong@{host}/{name}": "",
        f"postgresql://{name}_weak:weak@{host}/{name}": "permission denied",
        "postgresql://[::1": "",
    }
    for state, expected in cases.items():
        folder_install.config["state"] = state
        told = refused(folder_install)
        assert expected in told, told
        assert "wrong" not in told


def test_a_port_for_hints_that_is_taken(minio_install: Installation) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        minio_install.environ["GPUDROP_RUNPOD_API_KEY"] = "rpa_nothing"
        hints = {"host": "127.0.0.1", "port": port, "url": "https://gpudrop.example.org"}
        minio_install.config["runpod"] = {"hints": hints}
        told = refused(minio_install)
    assert told.startswith("config_invalid: ")
    assert str(port) in told
