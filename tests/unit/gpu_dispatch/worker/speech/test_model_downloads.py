"""scripts/models.py, run as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.scripts import ROOT


def run(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    base = {"PATH": str(Path("/usr/bin")), "HOME": str(tmp_path), "GPUDROP_CACHE": str(tmp_path / "cache")}
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "models.py"), *arguments],
        env=base | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_folder_of_ones_own_is_used_as_it_is(tmp_path: Path) -> None:
    done = run(tmp_path, GPUDROP_MODEL_DIR=str(tmp_path))
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path))
    assert run(tmp_path, GPUDROP_MODEL_DIR=str(tmp_path / "none")).returncode == 1
    refused = run(tmp_path, "--openai", GPUDROP_MODEL_DIR=str(tmp_path))
    assert refused.returncode == 1
    assert "has none" in refused.stderr


def test_without_a_network_it_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_FIND_LINKS": ""}
    done = run(tmp_path, **offline, PIP_DEFAULT_TIMEOUT="2", PIP_CONFIG_FILE="/dev/null")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "GPUDROP_MODEL_DIR" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))
