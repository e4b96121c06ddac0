"""Writes docker/constraints-*.txt: every package of every image, with version and hashes, from pyproject.toml.

    python scripts/lock_images.py            # again, with the newest versions that fit
    python scripts/lock_images.py --check    # fail when pyproject.toml asks for what the files do not hold

Needs uv. What an image leaves out, and its bounds, stand in docker/locks/.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "docker" / "locks"
PLATFORM = ("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_36")


@dataclass(frozen=True, slots=True)
class Image:
    """`extras` of pyproject.toml; `excludes` is a file in docker/locks/."""

    name: str
    extras: tuple[str, ...]
    excludes: str = ""

    @property
    def file(self) -> Path:
        return ROOT / "docker" / f"constraints-{self.name}.txt"


IMAGES = (
    Image("listener", ("brokers",), "excludes-listener.txt"),
    Image("nvenc", ("worker",), "excludes-nvenc.txt"),
    Image("whisper", ("openai", "worker")),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; 1 when a file is behind pyproject.toml")
    check = parser.parse_args().check
    behind = False
    for image in IMAGES:
        before = image.file.read_text() if image.file.is_file() else ""
        after = compiled(image, keep=before if check else "")
        if check and after != before:
            behind = True
            print(f"{image.file.name} is behind pyproject.toml: run `python scripts/lock_images.py`")
        elif not check:
            image.file.write_text(after)
            print(f"{image.file.relative_to(ROOT)}: {after.count('==')} packages")
    return 1 if behind else 0


def cache_folder() -> Path:
    """Where `.ci/run` puts its tools."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpudrop"


def uv() -> str:
    return shutil.which("uv") or str(cache_folder() / "tools" / "bin" / "uv")


def compiled(image: Image, *, keep: str) -> str:
    """The lock; versions that `keep` names stay as long as they fit."""
    extras = [part for extra in image.extras for part in ("--extra", extra)]
    excludes = ("--excludes", str(LOCKS / image.excludes)) if image.excludes else ()
    target = image.file.with_suffix(".new")
    target.write_text(keep)
    options = ("--quiet", "--generate-hashes", "--no-header", "--no-annotate", "--constraints", LOCKS / "bounds.txt")
    try:
        command = [uv(), "pip", "compile", *PLATFORM, *options, *extras, *excludes, "-o", target, "pyproject.toml"]
        subprocess.run([str(part) for part in command], check=True, cwd=ROOT)
        return target.read_text()
    finally:
        target.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
