"""One call in a process of its own, as `listener.process_pool` starts it.

    python -P -m listener.process_call FOLDER

FOLDER/call is the function and its arguments, FOLDER/outcome what came of it: a word and what belongs to it. Whatever
ends the owner closes stdin, and that ends this process.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from manifests.errors import GpuDropError

_NICENESS = 5


def write(path: Path, content: Any) -> None:
    """Under its name lies all of it or nothing. Large bytes are not copied on the way."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        pickle.dump(content, file, protocol=5)
    new.replace(path)


def read(path: Path) -> Any:
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - written by this program, in a folder of its own


def outcome_of(folder: Path) -> tuple[str, Any]:
    try:
        function, args, kwargs = read(folder / "call")
    except Exception:  # noqa: BLE001 - a module that is not found here, or does anything at all when it is imported
        return "not_portable", traceback.format_exc()
    try:
        return "value", function(*args, **kwargs)
    except GpuDropError as e:
        return "error", e.info
    except Exception:  # noqa: BLE001 - the supervisor of a call: its owner tells of it
        return "defect", traceback.format_exc()


def _end_with_owner() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    threading.Thread(target=_end_with_owner, name="owner", daemon=True).start()
    os.nice(_NICENESS)
    folder = Path(sys.argv[1])
    write(folder / "outcome", outcome_of(folder))
    sys.stderr.flush()
    # The thread that reads stdin would hold up an orderly end.
    os._exit(0)


if __name__ == "__main__":
    main()
