"""What tests let processes of a pool do. `marks` is a file with a line for every try."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from manifests.errors import NoSpeech


def pid() -> int:
    return os.getpid()


def dying(times: int, marks: Path) -> int:
    """Is killed `times` times, then gives how many tries there were."""
    if (tries := _tried(marks)) <= times:
        sys.stderr.write("the last words")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return tries


def hanging(marks: Path) -> None:
    _tried(marks)
    time.sleep(1000)


def busy() -> None:
    while True:
        pass


def hungry() -> int:
    return len([bytearray(2**20) for _ in range(100_000)])


class Swelling:
    """What takes more memory as soon as it is unpacked than any process may have."""

    def __reduce__(self) -> tuple[type[bytearray], tuple[int]]:
        return bytearray, (2**45,)


def refusing() -> None:
    raise NoSpeech("Nobody says a word.", hint="Speak.", where="audio")


def failing() -> None:
    raise KeyError("a defect")


def environment() -> dict[str, str]:
    return dict(os.environ)


def _tried(marks: Path) -> int:
    """The number of this try."""
    with marks.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len(marks.read_text().splitlines())
