"""What is wrong with requirements.lock, told in sentences. Part of lock.py; needs `packaging`, and no network."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from lock import LOCK, ROOT, Entry, entries, normal, wanted
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = (("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64"))
"""Where `make demo` and `make test` are promised to work: sys_platform, platform_system, platform_machine."""
RENEW = "run: make lock"


def problems(lock: Path = LOCK) -> list[str]:
    """None when every requirement of pyproject.toml has one fitting version wherever gpudrop is promised to work."""
    every = entries(lock)
    return [*_whole(lock, every), *_satisfies(every)]


def _whole(lock: Path, every: tuple[Entry, ...]) -> Iterator[str]:
    if "://" in lock.read_text("utf-8"):
        yield f"{lock.name} names an address: whoever installs has their own index"
    names = {entry.name for entry in every}
    for entry in every:
        if "--hash=sha256:" not in entry.text:
            yield f"{entry.name} has no hash: {RENEW}"
        if not any(parent in names or parent.startswith("gpudrop") for parent in entry.parents):
            yield f"{entry.name} is needed by nothing that the lock holds: {RENEW}"


def _satisfies(every: tuple[Entry, ...]) -> Iterator[str]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    asked = wanted(document["project"]["optional-dependencies"], document["dependency-groups"])
    for text in (*asked, *document["build-system"]["requires"]):
        requirement = Requirement(text)
        having = [entry for entry in every if entry.name == normal(requirement.name)]
        for environment in _environments():
            if requirement.marker and not requirement.marker.evaluate(environment):
                continue
            versions = {entry.version for entry in having if _applies(entry, environment)}
            fitting = [v for v in versions if requirement.specifier.contains(v, prereleases=True)]
            if len(versions) != 1 or not fitting:
                where = f"Python {environment['python_version']} on {environment['platform_machine']}"
                locked = ", ".join(sorted(versions)) or "none"
                yield f"pyproject.toml asks for {text}; for {where} the lock has {locked}: {RENEW}"
                break


def _applies(entry: Entry, environment: dict[str, str]) -> bool:
    marker = entry.text.splitlines()[0].rstrip("\\ ").partition(" ; ")[2]
    return not marker or Marker(marker).evaluate(environment)


def _environments() -> Iterator[dict[str, str]]:
    here = {key: str(value) for key, value in default_environment().items()}
    for python in PYTHONS:
        for sys_platform, system, machine in PLATFORMS:
            versions = {
                "python_version": python,
                "python_full_version": f"{python}.4",
                "implementation_version": python,
            }
            platform = {"sys_platform": sys_platform, "platform_system": system, "platform_machine": machine}
            yield {**here, **versions, **platform, "os_name": "posix", "extra": ""}
