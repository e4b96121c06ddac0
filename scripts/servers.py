"""Real servers for the tests and for trying things out: found, installed once, started on 127.0.0.1, stopped by pid.

    python scripts/servers.py install minio nats     # prints what runs each; builds or fetches it when needed
    python scripts/servers.py install all            # the system's packages too: as root, or in CI
    python scripts/servers.py install possible       # what can be had without becoming root; never fails
    python scripts/servers.py install quick          # what can be had in seconds; never fails
    python scripts/servers.py install minio-head     # the build of MinIO whose event stream stays silent
    python scripts/servers.py path minio             # what runs it, without installing anything

As a module: `start("minio", folder)` gives a running `Server`, `stop` ends it, `kill` ends it as a crash does,
`restart` is the same one again. Standard library only.

The kernel ends a server with its starter (Linux only): a small Python process sets that and becomes the server, since
code between fork and exec is unsafe beside threads; a thread as long-lived as the process starts all, since threads
hold the tie. Ports lie below the outgoing range, where a client cannot meet itself. MinIO on PATH counts from
2025-10-15 on. Data outlives a kill, not the disk. SeaweedFS leaves sockets in /tmp. The system's servers (Redis,
RabbitMQ, Mosquitto, PostgreSQL, Java) have its versions.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from server_builds import NAMES, QUICK, find, install, install_all, possible
from server_kinds import KINDS
from server_kinds.recipe import Recipe, Spot
from server_processes import Running, end, free_ports, spawn
from server_processes import kill as kill_process

_START_ATTEMPTS = 3


@dataclass
class Server:
    """A server and its processes of now. `endpoint` is its URL without keys; they are empty where it has none."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    spot: Spot
    log: Path
    running: Running
    beside: tuple[Running, ...] = ()

    @property
    def pid(self) -> int:
        return self.running.process.pid

    @property
    def pids(self) -> tuple[int, ...]:
        """All that was started for it, its own last."""
        return (*(each.process.pid for each in self.beside), self.pid)

    @property
    def host(self) -> str:
        """host:port"""
        return self.endpoint.partition("://")[2]

    @property
    def port(self) -> int:
        return self.spot.ports[0]

    @property
    def url(self) -> str:
        """The endpoint with user and password in it. Not for logs."""
        scheme = self.endpoint.partition("://")[0]
        return f"{scheme}://{self.access_key}:{self.secret_key}@{self.host}" if self.access_key else self.endpoint

    @property
    def data_dir(self) -> Path:
        return self.spot.data_dir


def start(
    name: str,
    data_dir: Path,
    *,
    environment: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    certs_dir: Path | None = None,
) -> Server:
    """Starts server `name` with its data below `data_dir`, free ports and random keys; returns when it is ready.

    `environment` adds to its variables (MINIO_NOTIFY_…), `arguments` to its command line (--event-webhook-url, URL);
    `certs_dir` (public.crt, private.key) makes MinIO speak TLS. The server ends with this process.
    Raises RuntimeError when it cannot be had or is not ready in time.
    """
    launcher = install(name)
    data_dir.mkdir(parents=True, exist_ok=True)
    user, password = "u" + secrets.token_hex(6), secrets.token_hex(16)
    for attempt in range(1, _START_ATTEMPTS + 1):
        ports = free_ports(KINDS[name].ports)
        spot = Spot(data_dir, ports, user, password, dict(environment or {}), tuple(arguments), certs_dir)
        try:
            return _start(name, KINDS[name].recipe(launcher, spot), spot)
        except RuntimeError:
            if attempt == _START_ATTEMPTS:
                raise
    raise AssertionError


def restart(server: Server) -> Server:
    """The same object, running again: same data, address and keys. Ends it first when it runs."""
    stop(server)
    launcher = install(server.name)
    for attempt in range(1, _START_ATTEMPTS + 1):
        try:
            again = _start(server.name, KINDS[server.name].recipe(launcher, server.spot), server.spot)
        except RuntimeError:
            if attempt == _START_ATTEMPTS:
                raise
        else:
            server.running, server.beside = again.running, again.beside
            return server
    raise AssertionError


def stop(server: Server) -> None:
    """Asks the server to end, waits, kills it when it does not end in time. Nothing happens to one that is gone."""
    for each in (server.running, *reversed(server.beside)):
        end(each)


def kill(server: Server) -> None:
    """Ends the server as a crash does: SIGKILL, without a word."""
    for each in (server.running, *server.beside):
        kill_process(each)


def _start(name: str, recipe: Recipe, spot: Spot) -> Server:
    log = spot.data_dir / "server.log"
    with contextlib.ExitStack() as undo:
        started: list[Running] = []
        for program in (*recipe.beside, recipe.server):
            started.append(spawn(program, log))
            undo.callback(end, started[-1])
        _wait_ready(name, recipe, started[-1], log)
        undo.pop_all()
    endpoint = f"{recipe.scheme}://{spot.address}"
    keys = recipe.access_key, recipe.secret_key
    return Server(name, endpoint, *keys, spot, log, started[-1], tuple(started[:-1]))


def _wait_ready(name: str, recipe: Recipe, running: Running, log: Path) -> None:
    deadline = time.monotonic() + recipe.ready_s
    while time.monotonic() < deadline:
        if running.process.poll() is not None:
            raise RuntimeError(f"{name} ended with {running.process.returncode}:\n{_tail(log)}")
        if recipe.answers() and running.process.poll() is None:
            return
        time.sleep(0.05)
    raise RuntimeError(f"{name} was not ready within {recipe.ready_s:.0f} s:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Servers for tests and trials.")
    parser.add_argument("action", choices=("install", "path"))
    known = (*NAMES, "all", "possible", "quick")
    parser.add_argument("servers", nargs="+", choices=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--build", choices=("minio", "minio-head"), help="another build of MinIO")
    options = parser.parse_args(arguments)
    wanted: list[str] = [options.build] if options.build else options.servers
    if "possible" in wanted or "quick" in wanted:
        _install(possible() if "possible" in wanted else QUICK)
        return 0
    names = NAMES if "all" in wanted else tuple(wanted)
    return _show(names) if options.action == "path" else _install(names)


def _show(names: Sequence[str]) -> int:
    missing = [name for name in names if not find(name)]
    for name in names:
        if found := find(name):
            print(found)
    for name in missing:
        print(f"Not installed. Run: python scripts/servers.py install {name}", file=sys.stderr)
    return 1 if missing else 0


def _install(names: Sequence[str]) -> int:
    launchers, problems = install_all(names)
    for launcher in launchers:
        print(launcher.binary or launcher.image)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
