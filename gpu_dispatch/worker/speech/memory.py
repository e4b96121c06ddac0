"""How many windows of 30 s fit into the memory that is free."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

from gpu_dispatch.worker.speech.engine import Device

MOST_WINDOWS: dict[Device, int] = {"cpu": 8, "cuda": 32}
"""More at once gain nothing: a CPU is busy with one window's encoder, a GPU with the decoder's steps for these."""

SHARE = 0.5
"""Of the free memory; estimates err, and other processes take some meanwhile."""

_SHAPES = ((100e6, 384, 4), (200e6, 512, 6), (600e6, 768, 12), (1.8e9, 1024, 24), (float("inf"), 1280, 32))
"""Whisper's sizes: bytes of the largest file of weights, width, layers. A head is 64 wide."""

_FRAMES, _TOKENS = 1500, 448
_GROUP = Path("/sys/fs/cgroup")
_GROUP_FILES = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
"""The limit and what is used of it, in versions 2 and 1 of control groups."""


def windows_at_once(weights: int, beams: int, device: Device, free: int | None = None) -> int:
    """Returns how many windows to decode together, at least 1, for a model file of `weights` bytes.

    `free` is in bytes; None: what `device` has now.
    """
    free = free_memory(device) if free is None else free
    return min(MOST_WINDOWS[device], max(1, int(SHARE * free / window_bytes(weights, beams, device))))


def window_bytes(weights: int, beams: int, device: Device) -> int:
    """Estimates the memory of one window: the scores of one encoder layer, and the decoder's keys and values."""
    width, layers = next((width, layers) for most, width, layers in _SHAPES if weights <= most)
    scores = 2 * (width // 64) * _FRAMES**2
    states = 2 * layers * width * (_FRAMES + _TOKENS * beams)
    return (2 if device == "cuda" else 4) * (scores + states + 8 * width * _FRAMES)


def free_memory(device: Device) -> int:
    """Returns the bytes that this process may still take; 0 when nobody can say."""
    return _free_on_gpu() if device == "cuda" else min(_free_here(), default=0)


def _free_here() -> Iterator[int]:
    """Yields what the machine, the control group and the process's limits leave."""
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024
    for limit, used in _GROUP_FILES:
        most, now = _read(_GROUP / limit).strip(), _read(_GROUP / used).strip()
        if most.isdecimal() and now.isdecimal():
            yield max(0, int(most) - int(now))
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    pages = _read(Path("/proc/self/statm")).split()
    if most != resource.RLIM_INFINITY and pages:
        yield max(0, most - int(pages[0]) * resource.getpagesize())


def _free_on_gpu() -> int:
    """Asks the driver's own tool; CTranslate2 does not tell."""
    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return 0
    return int(said[0]) * 2**20 if said and said[0].isdecimal() else 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
