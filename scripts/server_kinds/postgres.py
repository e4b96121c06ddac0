"""PostgreSQL with one superuser, whose password is asked for. It refuses to run as root: then it takes an account."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import struct
import tempfile
from functools import partial
from pathlib import Path

from server_processes import Program, run_once

from server_kinds.recipe import Kind, Launcher, Recipe, Spot, says

_INIT_S = 120.0
_ACCOUNT = "postgres"
_ELSEWHERE = "gpudrop-postgresql-"

# Nothing here has to outlive the machine: what it was told survives a kill -9 without waiting for the disk.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "timezone": "UTC",
}


def _recipe(launcher: Launcher, spot: Spot) -> Recipe:
    account = _ACCOUNT if os.geteuid() == 0 else ""
    data = _data_folder(spot, account)
    if not (data / "PG_VERSION").exists():
        _init(Path(launcher.program).parent / "initdb", data, spot, account)
    settings = {"port": str(spot.ports[0]), **_SETTINGS}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Recipe(
        scheme="postgresql",
        server=Program(
            (launcher.program, "-D", str(data), *options, *spot.arguments),
            spot.environment,
            account=account,
            # Ends without waiting for its clients to leave.
            end_signal=signal.SIGINT,
        ),
        answers=partial(says, spot.ports[0], _startup(spot.access_key), lambda answer: answer[:1] == b"R"),
        access_key=spot.access_key,
        secret_key=spot.secret_key,
    )


def _data_folder(spot: Spot, account: str) -> Path:
    """A folder of its own, elsewhere when the account cannot reach the one it shall have; then it ends with us."""
    link = spot.data_dir / "postgres"
    if link.exists():
        return link.resolve()
    if not account:
        return spot.folder("postgres")
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{_ELSEWHERE}{os.getpid()}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _give(folder, account)
    link.symlink_to(folder)
    return folder


def _sweep() -> None:
    """Removes the folders of processes that ended without doing so."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_ELSEWHERE}*"):
        try:
            os.kill(int(folder.name.removeprefix(_ELSEWHERE).partition("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)


def _give(path: Path, account: str) -> None:
    try:
        entry = pwd.getpwnam(account)
    except KeyError:
        raise RuntimeError(
            f"PostgreSQL does not run as root, and there is no account {account!r} to run it as."
        ) from None
    os.chown(path, entry.pw_uid, entry.pw_gid)


def _init(initdb: Path, data: Path, spot: Spot, account: str) -> None:
    with tempfile.NamedTemporaryFile("w", prefix="gpudrop-", suffix=".txt") as password:
        password.write(spot.secret_key)
        password.flush()
        if account:
            _give(Path(password.name), account)
        who = ("-U", spot.access_key, f"--pwfile={password.name}", "--auth=scram-sha-256")
        how = ("--no-sync", "--encoding=UTF8", "--locale=C")
        run_once((str(initdb), "-D", str(data), *who, *how), timeout_s=_INIT_S, account=account, what="initdb")


def _startup(user: str) -> bytes:
    """The first message of protocol 3.0. While it recovers the server answers it with an error, then with R."""
    body = struct.pack(">i", 196608) + f"user\0{user}\0database\0postgres\0\0".encode()
    return struct.pack(">i", len(body) + 4) + body


KIND = Kind(ports=1, recipe=_recipe)
