"""The pinned builds of the servers that tests run against, and where one comes from on this machine.

Part of servers.py. Standard library only. `GPUDROP_CACHE` moves the cache (default ~/.cache).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

BUILD_S = 1800.0


@dataclass(frozen=True)
class Build:
    """One pinned build. `release` is its date as YYYYMMDD."""

    name: str
    binary: str
    module: str
    version: str
    release: str
    image: str = ""
    """Container that holds the same build; empty: there is none."""


BUILDS: dict[str, Build] = {
    "minio": Build(
        name="minio",
        binary="minio",
        module="github.com/minio/minio",
        version="v0.0.0-20250907161309-07c3a429bfed",
        release="20250907",
        image="minio/minio:RELEASE.2025-09-07T16-13-09Z",
    ),
    "minio-head": Build(
        name="minio-head",
        binary="minio",
        module="github.com/minio/minio",
        version="v0.0.0-20260212201848-7aac2a2c5b7c",
        release="20260212",
    ),
}
# The last release whose event stream is flushed; a server found on PATH must not be younger.
_NEWEST_ON_PATH = "20251015"


@dataclass(frozen=True)
class Launcher:
    """How a build is run: a binary on this machine, or a container image."""

    binary: Path | None = None
    image: str = ""


def cache_dir() -> Path:
    base = os.environ.get("GPUDROP_CACHE") or Path.home() / ".cache"
    return Path(base).expanduser() / "gpudrop" / "servers"


def find(name: str) -> Path | None:
    """The binary of build `name` that is already here: in the cache, or on PATH when it is a fitting release."""
    build = _build(name)
    cached = cache_dir() / f"{build.name}-{build.release}" / build.binary
    if os.access(cached, os.X_OK):
        return cached
    on_path = shutil.which(build.binary)
    if on_path and build.name == build.binary and _release_of(Path(on_path)) <= _NEWEST_ON_PATH:
        return Path(on_path)
    return None


def install(name: str) -> Launcher:
    """A way to run build `name`: what is here already, else built with Go, else its container.

    Raises RuntimeError, saying what to do, when none of them works.
    """
    build = _build(name)
    if found := find(name):
        return Launcher(binary=found)
    if shutil.which("go"):
        return Launcher(binary=_go_install(build))
    if build.image and _docker_works():
        return Launcher(image=build.image)
    raise RuntimeError(
        f"No {build.name} server here. Put release {build.release} of {build.binary} on PATH, or install Go"
        " (https://go.dev) and run: python scripts/servers.py install minio"
        + (f" --build {name}" if name != "minio" else "")
    )


def _build(name: str) -> Build:
    if name not in BUILDS:
        raise RuntimeError(f"No server is called {name!r}. Known: {', '.join(BUILDS)}.")
    return BUILDS[name]


def _release_of(binary: Path) -> str:
    """The release date as YYYYMMDD; a build that does not tell sorts after every release."""
    try:
        text = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    match = re.search(r"RELEASE\.(\d{4})-(\d\d)-(\d\d)T", text)
    return "".join(match.groups()) if match else "unknown"


def _go_install(build: Build) -> Path:
    """Builds into a private folder and moves the binary into place whole, so that two builders cannot meet."""
    target = cache_dir() / f"{build.name}-{build.release}" / build.binary
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"Building {build.name} {build.release} with Go: this takes minutes, once.", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
        command = ["go", "install", f"{build.module}@{build.version}"]
        try:
            done = subprocess.run(
                command,
                env={**os.environ, "GOBIN": folder},
                capture_output=True,
                text=True,
                timeout=BUILD_S,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            raise RuntimeError(f"{' '.join(command)} did not end within {BUILD_S:.0f} s.") from e
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        (Path(folder) / build.binary).replace(target)
    return target


def _docker_works() -> bool:
    if not shutil.which("docker"):
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
