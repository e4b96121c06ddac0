"""Reads the mounts and the control groups of this process from /proc."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_OWN = Path("/proc/self")
_IN_MEMORY = ("tmpfs", "ramfs")


@dataclass(frozen=True, slots=True)
class Mount:
    root: str
    """The part of the file system that is seen at `point`."""
    point: Path
    kind: str
    controllers: frozenset[str] = frozenset()
    """Those of control groups of version 1."""

    def path_of(self, path: str) -> Path | None:
        """Returns where the control group `path` is seen; None outside `root`: a container sees only some groups."""
        inside = os.path.relpath(path, self.root)
        return None if inside.startswith("..") else self.point / inside if inside != "." else self.point


def mounts(own: Path = _OWN) -> tuple[Mount, ...]:
    """Returns the mounts in the order in which they were made; none where the system does not list them."""
    found: list[Mount] = []
    for line in _lines(own / "mountinfo"):
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        kind = rest[0] if rest else ""
        options = rest[-1].split(",") if kind == "cgroup" else []
        if len(fields) > 4:
            found.append(Mount(_plain(fields[3]), Path(_plain(fields[4])), kind, frozenset(options)))
    return tuple(found)


def own_groups(own: Path = _OWN) -> dict[str, str]:
    """Returns the path of this process's group by controller, "" for version 2."""
    found: dict[str, str] = {}
    for line in _lines(own / "cgroup"):
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        found |= dict.fromkeys(names.split(","), path)
    return found


def lies_in_memory(folder: Path, own: Path = _OWN) -> bool:
    """Returns whether files in `folder` take memory instead of disk. Of several mounts at one place the last counts."""
    inner = [mount for mount in reversed(mounts(own)) if folder.resolve().is_relative_to(mount.point)]
    return bool(inner) and max(inner, key=lambda mount: len(mount.point.parts)).kind in _IN_MEMORY


def _lines(path: Path) -> Sequence[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return ()


def _plain(text: str) -> str:
    """Decodes the octal escapes of blanks and backslashes."""
    return text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
