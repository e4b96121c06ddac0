"""What one job may take of this machine, what its processes take now, and the error of one that takes more."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from gpu_dispatch.local.cgroup_mounts import lies_in_memory
from gpu_dispatch.local.cgroups import Breach, Cgroup, Delegation, make
from gpu_dispatch.local.settings import LocalSettings
from gpu_dispatch.task import Capability
from manifests.errors import ResourceExhausted

LOOK_S = 0.3
"""Between two looks. Memory grows by a gigabyte a second at most: what a job may take is not what the machine has."""

_PROC = Path("/proc")
_LEAST_MEMORY = 4 * 2**30
_MEMORY_SHARE: dict[Capability, float] = {"whisper": 0.75, "nvenc": 0.5}
"""A model takes most of it, and a worker that has one is what the machine is for."""
_DISK_SHARE = 0.9
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Bytes, and a number of processes; 0 is no limit."""

    memory: int = 0
    disk: int = 0
    processes: int = 0


@dataclass(frozen=True, slots=True)
class JobUsage:
    """`memory`: bytes that are the processes' own, without files that the system could drop from it."""

    memory: int = 0
    disk: int = 0
    processes: int = 0


def default_memory(capability: Capability) -> int:
    """A share of what this machine, or its container, has; but 4 GiB where that is no more than nine tenths of it."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _CGROUP_LIMITS:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        sizes += [int(text)] if text.isdigit() else []
    total = min(size for size in sizes if size > 0)
    return int(max(total * _MEMORY_SHARE[capability], min(_LEAST_MEMORY, total * 0.9)))


def free_disk(folder: Path) -> int:
    """What a job may fill of the disk that `folder` lies on: nine tenths of what is free."""
    return int(shutil.disk_usage(folder).free * _DISK_SHARE)


def limits_of(settings: LocalSettings, capability: Capability, folder: Path) -> JobLimits:
    """Of one job whose files lie below `folder`."""
    memory = settings.memory or default_memory(capability)
    return JobLimits(memory, settings.disk or free_disk(folder), settings.processes)


def group_for(settings: LocalSettings, capability: Capability, where: Delegation, folder: Path) -> Cgroup | None:
    """A control group that keeps a worker to its limits, where one can be made. Files in memory count there."""
    if not where.folders:
        return None
    limits = limits_of(settings, capability, folder)
    files = limits.disk if lies_in_memory(folder) else 0
    return make(where, memory=limits.memory + files, processes=limits.processes)


def usage(session: int, folder: Path) -> JobUsage:
    """What the processes of `session` take, and what lies in `folder`. Where there is no /proc, the latter alone."""
    members = _members(session)
    return JobUsage(sum(map(_own_memory, members)), _size(folder), len(members))


def excess(used: JobUsage, limits: JobLimits, breach: Breach | None = None) -> ResourceExhausted | None:
    """The error of a job that takes more than it may. `breach`: what the kernel has already kept it from."""
    if breach == "memory" or (limits.memory and used.memory > limits.memory):
        return ResourceExhausted(
            f"The job took more than the {limits.memory // 2**20} MiB of memory it may have, and was ended.",
            hint="Scale the media down or cut it, use a smaller model, or raise local.memory in config.yaml.",
        )
    if limits.disk and used.disk > limits.disk:
        return ResourceExhausted(
            f"The job filled more than the {limits.disk // 2**20} MiB of disk it may have, and was ended.",
            hint="Cut the media into shorter pieces, give the machine more disk, or raise local.disk in config.yaml.",
        )
    if breach == "processes" or (limits.processes and used.processes > limits.processes):
        return ResourceExhausted(
            f"The job started more than the {limits.processes} processes it may have, and was ended.",
            hint="This is a defect, or an attack by what was dropped: look at the file before it is tried again.",
        )
    return None


def _members(session: int) -> list[Path]:
    found: list[Path] = []
    try:
        processes = [entry for entry in os.scandir(_PROC) if entry.name.isdigit()]
    except OSError:
        return []
    for process in processes:
        try:
            stat = Path(process.path, "stat").read_text()
        except OSError:
            continue
        # A program's name may hold anything but ends at the last bracket; then: state, parent, group, session.
        if int(stat.rpartition(")")[2].split()[3]) == session:
            found.append(Path(process.path))
    return found


def _own_memory(process: Path) -> int:
    kilobytes = 0
    try:
        lines = (process / "status").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssShmem", "VmSwap"):
            kilobytes += int(value.split()[0])
    return kilobytes * 1024


def _size(folder: Path) -> int:
    """On the disk; what a link leads to is not in it."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(parent, name).lstat().st_blocks * 512
            except OSError:
                continue
    return total
