"""One call in a process of its own, as `listener.processes.pool` starts it.

    python -P -m listener.processes.call FOLDER [ADDRESS_SPACE CPU_SECONDS]

FOLDER/call holds the function and its arguments, FOLDER/outcome the result: its kind and its value. The end of the
owner closes stdin, and that ends this process.
"""

from __future__ import annotations

import os
import pickle
import resource
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.errors import GpuDropError

_NICENESS = 5
_GRACE_S = 5


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What one call may take."""

    address_space: int
    """Bytes."""
    cpu_s: int
    """Seconds of a core."""


def write_call(path: Path, content: Any) -> None:
    """Writes a file whole or not at all, without copying large bytes."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        pickle.dump(content, file, protocol=5)
    new.replace(path)


def read_call(path: Path) -> Any:
    """Returns what `write_call` wrote. Raises PermissionError for a file that another user may have made."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or status.st_nlink != 1:
            raise PermissionError(f"{path} was not written by this program")
        return pickle.load(file)  # noqa: S301 - written by this program, in its private folder


def call_outcome(folder: Path) -> tuple[str, Any]:
    try:
        function, args, kwargs = read_call(folder / "call")
    except MemoryError:
        return "no_memory", ""
    except Exception:  # noqa: BLE001 - a module may be missing here, and its import may raise anything
        return "not_portable", traceback.format_exc()
    try:
        return "value", function(*args, **kwargs)
    except GpuDropError as e:
        return "error", e.info
    except MemoryError:
        return "no_memory", ""
    except Exception:  # noqa: BLE001 - the owner reports every error of a call
        return "defect", traceback.format_exc()


def _limit(limits: CallLimits) -> None:
    """Limits this process. A limit that the system does not have is left out: the owner's deadline still holds."""
    for what, most in (
        (resource.RLIMIT_AS, (limits.address_space, limits.address_space)),
        # The first sends SIGXCPU, the second kills the process.
        (resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + _GRACE_S)),
        (resource.RLIMIT_CORE, (0, 0)),
    ):
        with suppress(ValueError, OSError):
            resource.setrlimit(what, most)


def _end_with_owner() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    threading.Thread(target=_end_with_owner, name="owner", daemon=True).start()
    os.nice(_NICENESS)
    if len(sys.argv) > 2:
        _limit(CallLimits(int(sys.argv[2]), int(sys.argv[3])))
    folder = Path(sys.argv[1])
    write_call(folder / "outcome", call_outcome(folder))
    sys.stderr.flush()
    # The thread that reads stdin would hold up an orderly end.
    os._exit(0)


if __name__ == "__main__":
    main()
