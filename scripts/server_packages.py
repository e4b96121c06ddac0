"""How servers are fetched: Go, the system's packages, Maven, PyPI. Part of servers.py; standard library only.

Everything that is built goes to a private folder first and appears in the cache whole, so two builders cannot meet.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lock import as_text, subset

BUILD_S = 1800.0
_NO_START = Path("/usr/sbin/policy-rc.d")
_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>gpudrop</groupId><artifactId>servers</artifactId><version>1</version>
<dependencies>{dependencies}</dependencies></project>
"""
_DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


def go_install(module: str, target: Path) -> None:
    """Builds `module@version`; its binary becomes `target`."""
    if not shutil.which("go"):
        raise RuntimeError(
            f"No {target.name} server here, and no Go to build one: install Go (https://go.dev), or put"
            f" {target.name} ({target.parent.name.rpartition('-')[2]} or older) on PATH."
        )
    with _fresh(target.parent) as folder:
        _run(["go", "install", module], {"GOBIN": str(folder)}, f"Building {target.parent.name} with Go")
        (folder / target.name).replace(target)


def venv_install(package: str, target: Path) -> None:
    """An environment with a package of the lock. Its scripts name their folder: `target` links to the finished one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{target.name}-env-"))
    python, requirements = str(folder / "bin" / "python"), folder / "requirements.txt"
    locked = ["--quiet", "--require-hashes", "-r", str(requirements)]
    if uv := shutil.which("uv"):
        make = [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)]
        fill = [uv, "pip", "install", "--python", python, *locked]
    else:
        make = [sys.executable, "-m", "venv", str(folder)]
        fill = [python, "-m", "pip", "install", *locked]
    try:
        _run(make, {}, f"Making an environment for {package}")
        requirements.write_text(as_text(subset([package])), encoding="utf-8")
        _run(fill, {}, f"Installing {package}")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    link = folder.with_name(f".{folder.name}")
    link.symlink_to(folder.name)
    link.replace(target)


def maven_install(artifacts: Sequence[str], target: Path) -> None:
    """The artifacts (group:name:version) and all they need, as jars in `target`."""
    if not shutil.which("mvn") or not shutil.which("java"):
        apt_install(("default-jre-headless", "maven"))
    dependencies = "".join(_DEPENDENCY.format(*artifact.split(":")) for artifact in artifacts)
    with _fresh(target.parent) as folder:
        pom, jars = folder / "pom.xml", folder / "jars"
        pom.write_text(_POM.format(dependencies=dependencies), encoding="utf-8")
        command = ["mvn", "--batch-mode", "--quiet", "-f", str(pom), "dependency:copy-dependencies"]
        _run([*command, f"-DoutputDirectory={jars}"], {}, f"Fetching {target.name} with Maven")
        shutil.rmtree(target, ignore_errors=True)
        jars.rename(target)


def apt_install(packages: Sequence[str]) -> None:
    """Installs system packages without starting their services. Only as root, or in CI by sudo."""
    names = " ".join(packages)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    in_ci = os.environ.get("CI", "").lower() in ("1", "true", "yes")
    sudo = [] if root else ["sudo", "-n"]
    if not shutil.which("apt-get") or not (root or (in_ci and shutil.which("sudo"))):
        raise RuntimeError(
            f"Missing: {names}. Install it with the system's packages (Debian: sudo apt-get install {names})."
        )
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    _run([*apt, "update"], {}, "Reading the system's list of packages")
    with _services_stay_down(sudo):
        _run([*apt, "install", "-y", "--no-install-recommends", *packages], {}, f"Installing {names}")


def on_system(binary: str, places: Sequence[str]) -> Path | None:
    """The first that matches one of the glob patterns, the highest version first; else `binary` on PATH."""
    for place in places:
        matching = sorted(Path("/").glob(place.lstrip("/")), key=_by_version, reverse=True)
        if found := next((each for each in matching if os.access(each, os.X_OK)), None):
            return found
    found = shutil.which(binary)
    return Path(found) if found else None


def docker_works() -> bool:
    if not shutil.which("docker"):
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _by_version(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", str(path))]


@contextmanager
def _services_stay_down(sudo: Sequence[str]) -> Iterator[None]:
    # Debian asks this program before a package starts its service; 101 forbids it.
    if _NO_START.exists():
        yield
        return
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as script:
        script.write("#!/bin/sh\nexit 101\n")
        script.flush()
        subprocess.run([*sudo, "install", "-m", "755", script.name, str(_NO_START)], check=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run([*sudo, "rm", "-f", str(_NO_START)], check=False, timeout=60)


@contextmanager
def _fresh(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".build-") as folder:
        yield Path(folder)


def _run(command: Sequence[str], environment: Mapping[str, str], doing: str) -> None:
    print(f"{doing} …", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=BUILD_S,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError) as e:
        raise RuntimeError(f"{doing} did not work: {e}") from e
    if done.returncode != 0:
        raise RuntimeError(f"{doing} did not work:\n{(done.stderr or done.stdout)[-2000:]}")
