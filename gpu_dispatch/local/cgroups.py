"""Control groups for worker processes on this machine, with which the kernel enforces a worker's limits.

No failure here fails a job: a worker without a group is only watched (`gpu_dispatch.local.limits`).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpu_dispatch.local.cgroup_mounts import Mount, mounts, own_groups

_LOG = logging.getLogger("gpu_dispatch.local")

CONTROLLERS = ("memory", "pids")
LEAF = "gpudrop-listener"
"""Group that takes a parent's own processes: version 2 allows none beside groups."""

_PREFIX = "gpudrop-job-"
_TASKS_PER_PROCESS = 40
"""pids.max counts threads; ffmpeg and the speech engines have several for each core."""
_END_S = 2.0
_MOVES = 5
_LOCK_S = 1.0
_PAUSE_S = 0.02
_DELEGATED = ("trusted.delegate", "user.delegate")
"""Attributes of groups that systemd delegates to a service."""
_JOIN = 'for f in "$1" "$2"; do { [ -z "$f" ] || echo 0 >"$f"; } 2>/dev/null; done; shift 2; exec "$@"'

Breach = Literal["memory", "processes"]


@dataclass(frozen=True, slots=True)
class Delegation:
    """Where groups may be made."""

    version: int = 0
    folders: Mapping[str, Path] | None = None
    """The folder of new groups, by controller."""
    why: str = ""
    """Why there is none."""

    @property
    def holds_memory(self) -> bool:
        return "memory" in (self.folders or {})


class Cgroup:
    """One worker's group, with its folder by controller. Its maker holds `locks` on it until `remove`."""

    def __init__(self, folders: Mapping[str, Path], locks: Sequence[int]) -> None:
        self.folders = folders
        self._locks = list(locks)

    def command_in_group(self, command: Sequence[str]) -> tuple[str, ...]:
        """Returns `command` such that it runs in the group from the start; it runs outside where it may not enter."""
        places = [str(folder / "cgroup.procs") for folder in dict.fromkeys(self.folders.values())]
        return ("/bin/sh", "-c", _JOIN, "gpudrop", *[*places, ""][:2], *command)

    def members(self) -> frozenset[int]:
        """Returns the ids of the processes in it, in any session."""
        every = (_numbers(folder / "cgroup.procs") for folder in self.folders.values())
        return frozenset(number for numbers in every for number in numbers if number > 0)

    def breach(self) -> Breach | None:
        """Returns the limit that the kernel has enforced since the group was made; None for none."""
        memory, pids = self.folders.get("memory"), self.folders.get("pids")
        if memory and (
            _count(memory / "memory.events", "oom_kill") or _count(memory / "memory.oom_control", "oom_kill")
        ):
            return "memory"
        return "processes" if pids and _count(pids / "pids.events", "max") else None

    def kill(self) -> None:
        for number in self.members():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)

    def remove(self) -> None:
        """Kills what is left in it and removes it; blocks for up to 2 seconds."""
        deadline = time.monotonic() + _END_S
        left = set(self.folders.values())
        while left:
            self.kill()
            left = {folder for folder in left if not _removed(folder)}
            if left and time.monotonic() > deadline:
                _LOG.info("The control group %s could not be removed; the next start does it.", min(left))
                break
            if left:
                time.sleep(_PAUSE_S)
        while self._locks:
            os.close(self._locks.pop())


def groups_here() -> Delegation:
    """Finds where workers may have groups, and removes the groups that killed listeners have left there."""
    found = find(prepare=True)
    if found.folders:
        sweep(found)
        _LOG.info("Control groups (version %d) hold the worker processes of this machine.", found.version)
    else:
        _LOG.info("The worker processes of this machine are watched: %s.", found.why)
    return found


def find(*, prepare: bool) -> Delegation:
    """Finds where groups may be made. `prepare` enables there what version 2 needs; without it nothing is changed."""
    own, mounted = own_groups(), mounts()
    try:
        if any(name in own for name in CONTROLLERS):
            return _first_version(own, mounted)
        return _second_version(own.get(""), mounted, prepare=prepare)
    except OSError as e:
        return Delegation(why=f"{e.filename or 'the control group'}: {e.strerror}")


def make(where: Delegation, *, memory: int, processes: int) -> Cgroup | None:
    """Makes a group whose processes together may have `memory` bytes; None where that fails."""
    name = f"{_PREFIX}{uuid.uuid4().hex}"
    folders = {controller: parent / name for controller, parent in (where.folders or {}).items()}
    locks: list[int] = []
    try:
        for folder in dict.fromkeys(folders.values()):
            with _parent_lock(folder.parent):
                folder.mkdir()
                locks.append(_locked(folder))
        _limit(folders, memory, processes)
    except OSError as e:
        _LOG.info("No control group for a worker process: %s. It is watched all the same.", e)
        Cgroup(folders, locks).remove()
        return None
    return Cgroup(folders, locks)


def sweep(where: Delegation) -> None:
    """Removes the groups whose makers are gone, and kills what runs in them."""
    for parent in dict.fromkeys((where.folders or {}).values()):
        with _parent_lock(parent) as alone:
            for folder in parent.glob(f"{_PREFIX}*") if alone else ():
                with suppress(OSError):
                    Cgroup({"": folder}, [_locked(folder)]).remove()


def _first_version(own: Mapping[str, str], mounted: Sequence[Mount]) -> Delegation:
    found = {
        name: folder
        for name in CONTROLLERS
        if name in own and (folder := _folder(own[name], [m for m in mounted if name in m.controllers]))
    }
    usable = {name: folder for name, folder in found.items() if os.access(folder, os.W_OK)}
    return Delegation(1, usable) if usable else Delegation(why="no control group may be made here")


def _second_version(path: str | None, mounted: Sequence[Mount], *, prepare: bool) -> Delegation:
    own = _folder(path or "", [m for m in mounted if m.kind == "cgroup2"]) if path else None
    parent = _delegated_parent(own) if own else None
    if own is None or parent is None:
        return Delegation(why="the control group is not left to this service (systemd: Delegate=yes)")
    wanted = [name for name in CONTROLLERS if name in (parent / "cgroup.controllers").read_text().split()]
    if not wanted or not os.access(parent / "cgroup.subtree_control", os.W_OK):
        return Delegation(why=f"{parent} may not be written, or has no controllers")
    if prepare:
        open_for_groups(parent, wanted)
    return Delegation(2, dict.fromkeys(wanted, parent))


def open_for_groups(parent: Path, controllers: Sequence[str]) -> None:
    """Enables `controllers` for groups in `parent`. Processes of `parent` itself move into its group `LEAF`."""
    control = parent / "cgroup.subtree_control"
    missing = set(controllers).difference(control.read_text().split())
    if not missing:
        return
    for left in reversed(range(_MOVES)):
        if (parent / "cgroup.type").exists():  # the machine's root has no type, and may hold processes beside groups
            _move_processes(parent)
        try:
            control.write_text(" ".join(f"+{name}" for name in sorted(missing)))
            return
        except OSError as e:  # a moved process may have started another one just before
            if e.errno != errno.EBUSY or not left:
                raise


def _move_processes(parent: Path) -> None:
    leaf = parent / LEAF
    leaf.mkdir(exist_ok=True)
    for number in _numbers(parent / "cgroup.procs"):
        with suppress(ProcessLookupError):
            (leaf / "cgroup.procs").write_text(str(number))


def _delegated_parent(own: Path) -> Path | None:
    """Returns the group below which others may be made: a container's root, or one that systemd delegates; or None."""
    if own.name == LEAF:
        return own.parent
    if own.is_mount():
        return own
    return next((folder for folder in (own, own.parent) if _is_delegated(folder)), None)


def _is_delegated(folder: Path) -> bool:
    for name in _DELEGATED:
        with suppress(OSError):
            return os.getxattr(folder, name) == b"1"
    return False


def _folder(path: str, mounted: Sequence[Mount]) -> Path | None:
    return next((place for mount in mounted if (place := mount.path_of(path))), None)


def _limit(folders: Mapping[str, Path], memory: int, processes: int) -> None:
    """Writes the limits. Swap counts as memory in version 1 and is off in version 2."""
    if memory and (folder := folders.get("memory")):
        version_2 = (folder / "memory.max").exists()
        (folder / ("memory.max" if version_2 else "memory.limit_in_bytes")).write_text(str(memory))
        more = {"memory.swap.max": "0", "memory.oom.group": "1", "memory.memsw.limit_in_bytes": str(memory)}
        for name, value in more.items():
            with suppress(OSError):
                if (folder / name).exists():
                    (folder / name).write_text(value)
    if processes and (folder := folders.get("pids")):
        (folder / "pids.max").write_text(str(processes * _TASKS_PER_PROCESS))


@contextmanager
def _parent_lock(parent: Path) -> Generator[bool]:
    """Locks `parent`, so that no new group is swept before it is locked. Yields whether the lock came in time."""
    handle = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + _LOCK_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield False
                    return
                time.sleep(_PAUSE_S)
        yield True
    finally:
        os.close(handle)


def _locked(folder: Path) -> int:
    """Returns a locked descriptor of `folder`. Raises BlockingIOError while its maker lives."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _numbers(path: Path) -> list[int]:
    try:
        return [int(word) for word in path.read_text().split()]
    except OSError:
        return []


def _count(path: Path, name: str) -> int:
    """Returns the number after `name` in a file of counters; 0 where there is none."""
    with suppress(OSError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
