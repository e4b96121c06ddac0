"""Runs a worker process in its own namespaces with bubblewrap: it sees no other process and can write little."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import EngineUnavailable

PROGRAM = "bwrap"
_TRY_S = 10.0
_CODE = (sys.base_prefix, sys.prefix, str(Path(__file__).resolve().parents[2]))
_PRIVATE = ("/tmp", "/var/tmp", "/run/user")  # noqa: S108
"""Temporary files of other programs, and the sockets at which a user's session starts processes outside."""
_NAMESPACES = (
    *("--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
    *("--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc"),
)
_HIDE = ""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The paths that a job may write or read. Where one lies inside another, the inner one's rule holds there."""

    writable: tuple[Path, ...] = ()
    """Folders that a job writes to."""
    hidden: tuple[Path, ...] = ()
    """Folders and files that no job may see."""
    readable: tuple[Path, ...] = ()
    """What a job needs inside hidden folders."""


def sandboxed(command: Sequence[str], sandbox: Sandbox, work_root: Path) -> tuple[str, ...]:
    """Returns `command` run by bubblewrap. Raises EngineUnavailable without bubblewrap.

    It can read all files but `hidden` and others' temporary ones; devices and network stay, for GPUs and web inputs.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise EngineUnavailable(
            "local.sandbox is bubblewrap, and there is no bwrap on this machine.",
            hint="Install the package bubblewrap, or set local.sandbox to none.",
        )
    for folder in sandbox.writable:
        with suppress(OSError):  # one that cannot be made is not bound, and writing there reports it
            folder.mkdir(parents=True, exist_ok=True)
    mounts = [
        *(("--ro-bind-try", path) for path in _real((*_CODE, *sandbox.readable))),
        *(("--bind-try", path) for path in _real((*sandbox.writable, work_root))),
        *((_HIDE, path) for path in _real((*_PRIVATE, work_root.parent, *sandbox.hidden)) if path.exists()),
    ]
    options = [part for how, path in sorted(mounts, key=_depth) for part in _mount(how, path)]
    options += [part for how, path in mounts if how == _HIDE and path.is_dir() for part in ("--remount-ro", str(path))]
    for name in ("TMPDIR", "TRITON_CACHE_DIR"):
        options += ["--setenv", name, str(work_root)]
    return (program, *_NAMESPACES, *options, "--chdir", str(work_root), "--", *command)


def sandbox_problem() -> str:
    """Returns why bubblewrap does not work on this machine; "" where it does."""
    program = shutil.which(PROGRAM)
    if program is None:
        return "there is no bwrap"
    tried = [program, *_NAMESPACES, "true"]
    try:
        done = subprocess.run(tried, capture_output=True, text=True, timeout=_TRY_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        return f"bwrap does not run: {e}"
    return done.stderr.strip().rpartition("\n")[2] or f"bwrap ended with {done.returncode}" if done.returncode else ""


def _real(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Resolves links, because nothing can be mounted on one."""
    return (Path(os.path.realpath(path)) for path in paths)


def _depth(mount: tuple[str, Path]) -> int:
    """Sorts outer mounts first, because a later mount covers what lies below it."""
    return len(mount[1].parts)


def _mount(how: str, path: Path) -> tuple[str, ...]:
    if how != _HIDE:
        return how, str(path), str(path)
    return ("--tmpfs", str(path)) if path.is_dir() else ("--ro-bind", os.devnull, str(path))
