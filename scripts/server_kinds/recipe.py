"""What a kind of server decides from where it shall run: which programs, and how to hear that it is ready."""

from __future__ import annotations

import contextlib
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from server_processes import Program

READY_S = 30.0
_ANSWER_S = 2.0


@dataclass(frozen=True)
class Launcher:
    """How a server is run: `binary`, a program on this machine (for Kafka the folder of its jars), or a container."""

    binary: Path | None = None
    image: str = ""

    @property
    def program(self) -> str:
        return str(self.binary)


@dataclass(frozen=True)
class Spot:
    """Where one server lives and with what. It is all that is needed to have the same server again.

    `environment` adds to its variables, `arguments` to its command line, `certs_dir` (public.crt, private.key) makes
    a MinIO speak TLS. A kind that knows no keys leaves them unused.
    """

    data_dir: Path
    ports: tuple[int, ...]
    access_key: str
    secret_key: str
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    arguments: tuple[str, ...] = ()
    certs_dir: Path | None = None

    @property
    def address(self) -> str:
        """host:port of the first port, the one that clients use"""
        return f"127.0.0.1:{self.ports[0]}"

    def folder(self, name: str) -> Path:
        path = self.data_dir / name
        path.mkdir(parents=True, exist_ok=True)
        return path


@dataclass(frozen=True)
class Recipe:
    """`beside` starts first and ends last. `answers` tells whether the server serves; it returns within seconds."""

    scheme: str
    server: Program
    answers: Callable[[], bool]
    beside: tuple[Program, ...] = ()
    access_key: str = ""
    secret_key: str = ""
    ready_s: float = READY_S


@dataclass(frozen=True)
class Kind:
    """A kind of server. `recipe` writes its configuration and first data below `Spot.data_dir`."""

    ports: int
    recipe: Callable[[Launcher, Spot], Recipe]


def http_ok(url: str, holds: Callable[[bytes], bool] = lambda _: True) -> bool:
    """Whether GET answers 200 with a body that `holds`, within seconds."""
    # Only asks servers that this process started on 127.0.0.1: their certificates say nothing here.
    context = ssl._create_unverified_context() if url.startswith("https") else None
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_S, context=context) as response:
            return response.status == 200 and holds(response.read())
    except (urllib.error.URLError, OSError):
        return False


def says(port: int, question: bytes, expected: Callable[[bytes], bool], *, at_most: int = 4096) -> bool:
    """Sends `question` to the port; True as soon as what came back is `expected`."""
    answer = b""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), _ANSWER_S) as connection:
        connection.sendall(question)
        while len(answer) < at_most and not expected(answer):
            part = connection.recv(at_most)
            if not part:
                break
            answer += part
    return expected(answer)
