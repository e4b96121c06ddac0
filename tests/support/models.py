"""Whisper weights: small ones, real ones."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

from support.requirements import require
from support.scripts import run_script

FETCH_S = 1200.0


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """A folder for GPUDROP_MODEL_DIR that holds tiny.en for faster-whisper."""
    return _fetched("No Whisper weights here.")


@pytest.fixture(scope="session")
def openai_model_dir() -> Path:
    """The same folder, with tiny.en.pt for openai-whisper."""
    require(importlib.util.find_spec("whisper"), "openai-whisper is not installed.", "pip install 'gpudrop[openai]'")
    return _fetched("No weights for openai-whisper here.", "--openai")


@pytest.fixture(scope="session")
def transformers_model_dir() -> Path:
    """The same folder, with whisper-tiny.en for transformers."""
    found = importlib.util.find_spec("transformers")
    require(found, "transformers is not installed.", "pip install 'gpudrop[transformers]'")
    return _fetched("No weights for transformers here.", "--transformers")


@pytest.fixture(scope="session")
def base_model_dir() -> Path:
    """The same folder, with base, a multilingual model for faster-whisper."""
    folder = _fetched("No multilingual weights here.", "--base")
    require((folder / "base" / "model.bin").is_file(), f"{folder} has no base.", "unset GPUDROP_MODEL_DIR")
    return folder


def _fetched(reason: str, *arguments: str) -> Path:
    remedy = " ".join(("python scripts/models.py", *arguments))
    try:
        done = run_script("models", *arguments, timeout_s=FETCH_S)
    except subprocess.TimeoutExpired:
        require(False, reason, remedy)
        raise
    last = (done.stderr.strip().splitlines() or [""])[-1]
    require(done.returncode == 0, f"{reason} {last}".strip(), remedy)
    return Path(done.stdout.strip().splitlines()[-1])
