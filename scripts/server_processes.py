"""Processes of servers: started with a tie to whoever started them, waited for, ended by pid. Part of servers.py."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

STOP_S = 20.0
# Below the ports that Linux and macOS give to outgoing connections: there a client that tries a stopped server again
# and again may connect to itself, or keep the port from the server that comes back.
_PORTS = range(15_000, 32_000)
_PORT_ATTEMPTS = 200

# Runs before the server in its process: takes the account, then asks the kernel to end it when its starter dies
# (Linux; elsewhere a no-op). Without preexec_fn, which may deadlock when the starting process has threads.
_TIED_TO_PARENT = """
import ctypes, os, pwd, sys  # the account may be unable to read them
parent, end_signal, account = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if account:
    entry = pwd.getpwnam(account)
    os.initgroups(account, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(1, end_signal)
    if os.getppid() != parent:
        sys.exit(1)
os.execvp(sys.argv[4], sys.argv[4:])
"""


@dataclass(frozen=True)
class Program:
    """One process to run. `account` is the one it runs as when root starts it; `end_signal` asks it to end well."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    account: str = ""
    end_signal: int = signal.SIGTERM


@dataclass(frozen=True)
class Running:
    program: Program
    process: subprocess.Popen[bytes]


def spawn(program: Program, log: Path) -> Running:
    """Starts the program, its output appended to `log`. It ends when this process ends, however that happens."""
    tie = [sys.executable, "-I", "-S", "-c", _TIED_TO_PARENT]
    argv = [*tie, str(os.getpid()), str(int(program.end_signal)), program.account, *program.argv]
    environment = {**os.environ, **program.environment}

    def popen() -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True
            )

    return Running(program, _starter().submit(popen).result())


@cache
def _starter() -> ThreadPoolExecutor:
    # The kernel ties a child to the thread that started it: this one lives as long as the process.
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="servers")


def end(running: Running) -> None:
    """Asks the process to end, kills it when it has not within STOP_S seconds, and returns when it is gone."""
    process = running.process
    if process.poll() is None:
        process.send_signal(running.program.end_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    kill(running)


def kill(running: Running) -> None:
    process = running.process
    if process.poll() is None:
        process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)


def run_once(argv: Sequence[str], *, timeout_s: float, account: str = "", what: str) -> None:
    """Runs a command to its end. Raises RuntimeError with its last words when it fails or takes too long."""
    options = {"user": account, "group": account, "extra_groups": ()} if account else {}
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False, cwd="/", **options
        )
    except subprocess.TimeoutExpired as e:
        raise RuntimeError(f"{what} did not end within {timeout_s:.0f} s.") from e
    except OSError as e:
        raise RuntimeError(f"{what} could not be started: {e}") from e
    if done.returncode != 0:
        raise RuntimeError(f"{what} failed:\n{(done.stderr or done.stdout)[-2000:]}")


def free_ports(count: int) -> tuple[int, ...]:
    """Ports of 127.0.0.1 on which nothing listens now."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, _PORT_ATTEMPTS):
        if len(found) == count:
            break
        with socket.socket() as trying, contextlib.suppress(OSError):
            trying.bind(("127.0.0.1", port))
            found.append(port)
    return tuple(found)
