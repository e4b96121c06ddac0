"""The limits of a job on this machine, what its processes use now, and the error of a job that exceeds its limits."""

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

CHECK_INTERVAL_S = 0.3
"""Seconds between two measurements. Memory grows by 1 GB a second at most, and limits lie below the machine's total."""

_PROC = Path("/proc")
_LEAST_MEMORY = 4 * 2**30
_MEMORY_SHARE: dict[Capability, float] = {"whisper": 0.75, "nvenc": 0.5}
"""Share of the machine's memory: a model takes most of it, and the worker with the model is what the machine is for."""
_DISK_SHARE = 0.9
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True, slots=True)
class JobLimits:
    """The limits of one job: bytes of memory and disk, and a number of processes; 0: no limit."""

    memory: int = 0
    disk: int = 0
    processes: int = 0


@dataclass(frozen=True, slots=True)
class JobUsage:
    """What one job uses: bytes of memory and disk, and a number of processes."""

    memory: int = 0
    """Without cached files, which the system could drop."""
    disk: int = 0
    processes: int = 0


def default_memory(capability: Capability) -> int:
    """Returns a share of the memory of this machine or container: at least 4 GiB, or nine tenths where it has less."""
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
    """Returns the bytes that a job may fill on the disk of `folder`: nine tenths of what is free."""
    return int(shutil.disk_usage(folder).free * _DISK_SHARE)


def limits_of(settings: LocalSettings, capability: Capability, folder: Path) -> JobLimits:
    """Returns the limits of one job whose files lie below `folder`."""
    memory = settings.memory or default_memory(capability)
    return JobLimits(memory, settings.disk or free_disk(folder), settings.processes)


def group_for(settings: LocalSettings, capability: Capability, where: Delegation, folder: Path) -> Cgroup | None:
    """Makes a control group with a worker's limits; None where it cannot be made. Files in memory count there, too."""
    if not where.folders:
        return None
    limits = limits_of(settings, capability, folder)
    files = limits.disk if lies_in_memory(folder) else 0
    return make(where, memory=limits.memory + files, processes=limits.processes)


def usage(session: int, folder: Path) -> JobUsage:
    """Measures the processes of `session` and the files in `folder`; without /proc only the files."""
    members = _members(session)
    return JobUsage(sum(map(_own_memory, members)), _size(folder), len(members))


def excess(used: JobUsage, limits: JobLimits, breach: Breach | None = None) -> ResourceExhausted | None:
    """Returns the error of a job that exceeds its limits, else None. `breach`: a limit that the kernel has enforced."""
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
        # A program's name may hold anything, but ends at the last bracket; state, parent, group and session follow.
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
    """Returns the bytes on the disk, without what links lead to."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(parent, name).lstat().st_blocks * 512
            except OSError:
                continue
    return total
