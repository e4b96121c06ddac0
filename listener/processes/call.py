"""One call in a process of its own, as `listener.processes.pool` starts it.

    python -P -m listener.processes.call FOLDER [ADDRESS_SPACE CPU_SECONDS]

FOLDER/call is the function and its arguments, FOLDER/outcome what came of it: a word and what belongs to it. Whatever
ends the owner closes stdin, and that ends this process.
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
    """What one call may take: bytes of address space, and seconds of a core."""

    address_space: int
    cpu_s: int


def write_call(path: Path, content: Any) -> None:
    """Under its name lies all of it or nothing. Large bytes are not copied on the way."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        pickle.dump(content, file, protocol=5)
    new.replace(path)


def read_call(path: Path) -> Any:
    """What `write` left there. Raises PermissionError for a file that somebody else may have made."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or status.st_nlink != 1:
            raise PermissionError(f"{path} was not written by this program")
        return pickle.load(file)  # noqa: S301 - written by this program, in a folder that is nobody else's


def call_outcome(folder: Path) -> tuple[str, Any]:
    try:
        function, args, kwargs = read_call(folder / "call")
    except MemoryError:
        return "no_memory", ""
    except Exception:  # noqa: BLE001 - a module that is not found here, or does anything at all when it is imported
        return "not_portable", traceback.format_exc()
    try:
        return "value", function(*args, **kwargs)
    except GpuDropError as e:
        return "error", e.info
    except MemoryError:
        return "no_memory", ""
    except Exception:  # noqa: BLE001 - the supervisor of a call: its owner tells of it
        return "defect", traceback.format_exc()


def _limit(limits: CallLimits) -> None:
    """A system that does not know one of these goes on without it: the owner still has its deadline."""
    for what, most in (
        (resource.RLIMIT_AS, (limits.address_space, limits.address_space)),
        # The first is told by a signal of its own; past the second the process is killed.
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
