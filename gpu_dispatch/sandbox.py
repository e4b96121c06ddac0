"""A worker process in namespaces of its own, by bubblewrap: no other process is seen, and little can be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import EngineUnavailable

PROGRAM = "bwrap"
_TRY_S = 10.0
_PACKAGES = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`writable`: folders that a job leaves something in. `hidden`: folders and files that no job may see."""

    writable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()


def sandboxed(command: Sequence[str], sandbox: Sandbox, work_root: Path) -> tuple[str, ...]:
    """`command`, run by bubblewrap. All files can be read but for `hidden` and the temporary ones of others;
    devices and network stay, for GPUs and inputs on the web. Raises EngineUnavailable without bubblewrap.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise EngineUnavailable(
            "local.sandbox is bubblewrap, and there is no bwrap on this machine.",
            hint="Install the package bubblewrap, or set local.sandbox to none.",
        )
    options = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    options += ["--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]  # noqa: S108
    for path in (sys.base_prefix, sys.prefix, str(_PACKAGES)):
        options += ["--ro-bind", path, path]  # also where they lie among temporary files
    for path in sandbox.hidden:
        if path.is_dir():
            options += ["--tmpfs", str(path)]
        elif path.exists():
            options += ["--ro-bind", os.devnull, str(path)]
    for path in (*sandbox.writable, work_root):
        options += ["--bind-try", str(path), str(path)]
    return (program, *options, "--chdir", str(work_root), "--", *command)


def why_unusable() -> str:
    """Why bubblewrap does not work on this machine; "" where it does."""
    program = shutil.which(PROGRAM)
    if program is None:
        return "there is no bwrap"
    tried = [program, "--ro-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "true"]
    try:
        done = subprocess.run(tried, capture_output=True, text=True, timeout=_TRY_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        return f"bwrap does not run: {e}"
    return done.stderr.strip().rpartition("\n")[2] or f"bwrap ended with {done.returncode}" if done.returncode else ""
