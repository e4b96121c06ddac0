"""Real servers for the tests and for trying things out: found, built once, started on 127.0.0.1, stopped by pid.

    python scripts/servers.py install minio                      # prints the folder's binary; builds it when needed
    python scripts/servers.py install minio --build minio-head   # the build whose event stream stays silent
    python scripts/servers.py path minio                         # the binary, without installing anything

As a module: `start("minio", folder)` gives a running `Server`, `restart` the same one again, `stop` ends it.
Standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from server_builds import BUILDS, Launcher, find, install

READY_S = 30.0
STOP_S = 10.0
_BIND_ATTEMPTS = 3

# Runs before the server in its process: the kernel ends it when whoever started it dies (Linux; elsewhere a no-op).
# Without preexec_fn, which may deadlock when the starting process has threads.
_TIED_TO_PARENT = """
import os, sys
parent = int(sys.argv[1])
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None, use_errno=True).prctl(1, 15)
    if os.getppid() != parent:
        sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Server:
    """A running server. `endpoint` is its URL; `log` the file its output goes to."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    data_dir: Path
    log: Path
    process: subprocess.Popen[bytes]
    environment: Mapping[str, str]
    certs_dir: Path | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def host(self) -> str:
        """host:port"""
        return self.endpoint.partition("://")[2]


def start(
    name: str, data_dir: Path, *, environment: Mapping[str, str] | None = None, certs_dir: Path | None = None
) -> Server:
    """Starts build `name` with its data below `data_dir`, free ports and random credentials; returns when it is ready.

    `environment` adds to the server's variables (MINIO_NOTIFY_…); `certs_dir` (public.crt, private.key) makes it
    speak TLS. Call it from the main thread: on Linux the server ends with the thread that started it.
    Raises RuntimeError when it cannot be had or is not ready within READY_S seconds.
    """
    launcher = install(name)
    data_dir.mkdir(parents=True, exist_ok=True)
    user, password = "u" + secrets.token_hex(6), secrets.token_hex(16)
    for attempt in range(1, _BIND_ATTEMPTS + 1):
        try:
            return _start(name, launcher, data_dir, _free_port(), user, password, environment or {}, certs_dir)
        except RuntimeError:
            if attempt == _BIND_ATTEMPTS:
                raise
    raise AssertionError


def restart(server: Server) -> Server:
    """The same server again after `stop`: same data, address and credentials."""
    port = int(server.endpoint.rpartition(":")[2])
    launcher = install(server.name)
    keys = server.access_key, server.secret_key
    return _start(server.name, launcher, server.data_dir, port, *keys, server.environment, server.certs_dir)


def stop(server: Server) -> None:
    """Terminates the server, waits, kills it when it does not end within STOP_S seconds."""
    _end(server.process)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _start(
    name: str,
    launcher: Launcher,
    data_dir: Path,
    port: int,
    user: str,
    password: str,
    environment: Mapping[str, str],
    certs_dir: Path | None,
) -> Server:
    log = data_dir / "server.log"
    keys = {"MINIO_ROOT_USER": user, "MINIO_ROOT_PASSWORD": password}
    own = {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off", **environment, **keys}
    argv = _argv(launcher, data_dir, port, own, certs_dir)
    tied = [sys.executable, "-I", "-S", "-c", _TIED_TO_PARENT, str(os.getpid()), *argv]
    with log.open("ab") as out:
        process = subprocess.Popen(
            tied, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **own}, start_new_session=True
        )
    endpoint = f"{'https' if certs_dir else 'http'}://127.0.0.1:{port}"
    server = Server(name, endpoint, user, password, data_dir, log, process, environment, certs_dir)
    try:
        _wait_ready(server)
    except BaseException:
        _end(process)
        raise
    return server


def _argv(
    launcher: Launcher, data_dir: Path, port: int, environment: Mapping[str, str], certs_dir: Path | None
) -> list[str]:
    objects = data_dir / "objects"
    objects.mkdir(exist_ok=True)
    if launcher.binary:
        certs = ["--certs-dir", str(certs_dir)] if certs_dir else []
        addresses = ["--address", f"127.0.0.1:{port}", "--console-address", f"127.0.0.1:{_free_port()}"]
        return [str(launcher.binary), "server", *certs, *addresses, str(objects)]
    # The container shares the host's network, so that it reaches receivers of events on 127.0.0.1.
    mounts = ["-v", f"{objects}:/data"] + (["-v", f"{certs_dir}:/certs:ro"] if certs_dir else [])
    names = [part for name in environment for part in ("-e", name)]
    user = ["--user", f"{os.getuid()}:{os.getgid()}"] if hasattr(os, "getuid") else []
    certs = ["--certs-dir", "/certs" if certs_dir else "/tmp/certs"]
    addresses = ["--address", f"127.0.0.1:{port}", "--console-address", f"127.0.0.1:{_free_port()}"]
    head = ["docker", "run", "--rm", "--init", "--network", "host"]
    return [*head, *user, *names, *mounts, launcher.image, "server", *certs, *addresses, "/data"]


def _wait_ready(server: Server) -> None:
    deadline = time.monotonic() + READY_S
    url = f"{server.endpoint}/minio/health/live"
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"{server.name} ended with {server.process.returncode}:\n{_tail(server.log)}")
        if _answers(url):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{server.name} was not ready within {READY_S:.0f} s:\n{_tail(server.log)}")


def _answers(url: str) -> bool:
    # Only the health of a server that this process started on 127.0.0.1: its certificate says nothing here.
    context = ssl._create_unverified_context() if url.startswith("https") else None
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)


def _installed(name: str) -> Path | str:
    launcher = install(name)
    return launcher.binary or launcher.image


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Servers for tests and trials.")
    parser.add_argument("action", choices=("install", "path"))
    parser.add_argument("server", choices=("minio",))
    parser.add_argument("--build", choices=tuple(BUILDS), help="another build of the same server")
    options = parser.parse_args(arguments)
    name: str = options.build or options.server
    try:
        found = find(name) if options.action == "path" else _installed(name)
    except RuntimeError as e:
        print(e, file=sys.stderr)
        return 1
    if not found:
        print(f"Not installed. Run: python scripts/servers.py install {options.server}", file=sys.stderr)
        return 1
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
