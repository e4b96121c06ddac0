"""The lock: every package of every extra and group of pyproject.toml, with versions and hashes, in requirements.lock.

    python scripts/lock.py renew                        # again, with the newest versions that fit (needs uv)
    python scripts/lock.py check                        # does it hold what pyproject.toml asks for? (offline)
    python scripts/lock.py show                         # what pip installs for gpudrop itself
    python scripts/lock.py show --extra dev,openai --group build
    python scripts/lock.py show --group lock --bare     # a group alone, without gpudrop's own needs
    python scripts/lock.py show --extra worker --without docker/locks/excludes-nvenc.txt

One file serves all: each entry says who needs it, so `show` can leave out the rest. Standard library only, but `check`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
BOUNDS = ROOT / "docker" / "locks" / "bounds.txt"
RENEW_S = 600.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OURS = re.compile(r"gpudrop\[(?P<extras>[^]]+)\]")


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of a package. `text` is what pip reads: name, version, marker, hashes; `parents` need it."""

    name: str
    version: str
    text: str
    parents: frozenset[str]


def entries(lock: Path = LOCK) -> tuple[Entry, ...]:
    found: list[Entry] = []
    for block in re.split(r"^(?=[A-Za-z0-9])", lock.read_text("utf-8"), flags=re.MULTILINE):
        lines = block.splitlines()
        if not lines or lines[0].startswith("#"):
            continue
        name, version = re.match(r"([^=\s]+)==(\S+)", lines[0]).groups()  # type: ignore[union-attr]
        parents = re.findall(r"^\s+# via (.*)$", block, re.MULTILINE)
        text = "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
        found.append(
            Entry(normal(name), version, text, frozenset(normal(p) for via in parents for p in via.split(", ")))
        )
    return tuple(found)


def wanted(extras: Iterable[str] = (), groups: Iterable[str] = (), *, bare: bool = False) -> list[str]:
    """The requirements that pyproject.toml names. Raises KeyError for an extra or a group that it does not know."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project = document["project"]
    requirements = [] if bare else list(project["dependencies"])
    for extra in extras:
        requirements += _unfolded(project["optional-dependencies"], extra)
    for group in groups:
        requirements += document["dependency-groups"][group]
    return requirements


def subset(names: Iterable[str], without: Iterable[str] = ()) -> tuple[Entry, ...]:
    """The entries of these packages and of all that they need, but for `without` and what only those need."""
    every = entries()
    left_out = {normal(name) for name in without}
    chosen: set[str] = set()
    ahead = {normal(name) for name in names} - left_out
    while ahead:
        chosen |= ahead
        ahead = {e.name for e in every if e.parents & ahead} - chosen - left_out
    return tuple(entry for entry in every if entry.name in chosen)


def locked(package: str) -> str:
    """The version of a package that the lock has only once."""
    (version,) = {entry.version for entry in entries() if entry.name == normal(package)}
    return version


def as_text(chosen: Iterable[Entry]) -> str:
    return "".join(f"{entry.text}\n" for entry in chosen)


def name_of(requirement: str) -> str:
    found = _NAME.match(requirement)
    assert found, requirement
    return normal(found[0])


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _unfolded(extras: dict[str, list[str]], name: str) -> Iterator[str]:
    for requirement in extras[name]:
        if ours := _OURS.match(requirement):
            for other in ours["extras"].split(","):
                yield from _unfolded(extras, other.strip())
        else:
            yield requirement


def renew() -> None:
    """Raises CalledProcessError when no versions fit together."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--all-extras", "--upgrade"]
    # No address of an index or a folder of wheels: whoever installs has their own.
    silent = ["--quiet", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--annotation-style", "line"]
    grouped = [part for group in groups for part in ("--group", group)]
    command = [uv(), "pip", "compile", "pyproject.toml", *options, *silent, *grouped]
    subprocess.run(
        [*command, "--constraints", str(BOUNDS), "--output-file", str(LOCK)], check=True, cwd=ROOT, timeout=RENEW_S
    )


def cache_folder() -> Path:
    """Where `.ci/run` puts its tools."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpudrop"


def uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    return shutil.which("uv") or str(beside if beside.is_file() else cache_folder() / "tools" / "bin" / "uv")


def _names_in(file: Path) -> list[str]:
    lines = file.read_text("utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("renew", "check", "show"))
    parser.add_argument("--extra", default="", help="extras, with commas between them")
    parser.add_argument("--group", default="", help="dependency groups, with commas between them")
    parser.add_argument("--bare", action="store_true", help="not gpudrop's own dependencies")
    parser.add_argument("--without", type=Path, help="a file with names of packages to leave out")
    given = parser.parse_args()
    if given.action == "renew":
        renew()
    if given.action in ("renew", "check"):
        from lock_check import problems

        found = problems()
        print(*(found or [f"{LOCK.name} holds what pyproject.toml asks for"]), sep="\n")
        return 1 if found else 0
    asked = wanted(filter(None, given.extra.split(",")), filter(None, given.group.split(",")), bare=given.bare)
    return show([name_of(requirement) for requirement in asked], _names_in(given.without) if given.without else [])


def show(names: list[str], without: list[str]) -> int:
    chosen = subset(names, without)
    if missing := set(names) - set(without) - {entry.name for entry in chosen}:
        print(f"{LOCK.name} has no {', '.join(sorted(missing))}: run `make lock`", file=sys.stderr)
        return 1
    print(as_text(chosen), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
