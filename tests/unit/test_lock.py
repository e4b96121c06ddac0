"""One lock for all that is installed: it holds what pyproject.toml asks for, and each user gets what he needs of it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from support.scripts import ROOT, load_script

lock = load_script("lock")
check = load_script("lock_check")


def changed(tmp_path: Path, pattern: str, replacement: str) -> list[str]:
    text, count = re.subn(pattern, replacement, lock.LOCK.read_text("utf-8"), count=1, flags=re.MULTILINE)
    assert count
    file = tmp_path / "requirements.lock"
    file.write_text(text, "utf-8")
    return check.problems(file)


def test_the_lock_holds_what_pyproject_asks_for() -> None:
    assert check.problems() == []


@pytest.mark.parametrize(
    ("pattern", "replacement", "says"),
    [
        (r"^pydantic==\S+", "pydantic==1.0", "asks for pydantic>="),
        (r"^pydantic==", "pydantic-of-another==", "asks for pydantic>=.* has none"),
        (r"^(numpy==\S+) ; python_full_version < '3\.12'", r"\1 ; python_full_version < '3.11'", "asks for numpy>="),
        (r"(^dbos==\S+ \\\n)(\s+--hash=\S+( \\)?\n)+", r"\1", "dbos has no hash"),
        (r"# via gpudrop", "# from https://index.example/simple via gpudrop", "names an address"),
    ],
)
def test_a_lock_that_is_behind_is_told(tmp_path: Path, pattern: str, replacement: str, says: str) -> None:
    assert re.search(says, "\n".join(changed(tmp_path, pattern, replacement)))


@pytest.mark.parametrize("extras", [(), ("dev",)])
def test_a_subset_is_whole(extras: tuple[str, ...]) -> None:
    """What is installed here says what it needs: all of that is in the subset."""
    chosen = {entry.name for entry in lock.subset(map(lock.name_of, lock.wanted(extras)))}
    for name in chosen:
        try:
            needs = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:  # for another system or Python
            continue
        missing = {n.name for n in needs if not n.marker or n.marker.evaluate({"extra": ""})}
        assert {lock.normal(n) for n in missing} <= chosen, name


def test_a_subset_leaves_out_what_only_others_need() -> None:
    def names(*arguments: str) -> set[str]:
        command = [sys.executable, "-S", str(ROOT / "scripts" / "lock.py"), "show", *arguments]
        said = subprocess.run(command, check=True, capture_output=True, text=True)
        return set(re.findall(r"^([a-z0-9-]+)==", said.stdout, re.MULTILINE))

    assert names("--bare", "--group", "lock") == {"packaging", "uv"}
    assert not {"torch", "pytest", "moto"} & names()
    assert "torch" in names("--extra", "openai")
    assert {"pytest", "runpod", "aiormq"} <= names("--extra", "dev")
