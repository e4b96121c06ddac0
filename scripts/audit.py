"""What gpudrop installs, as a list for others to check, and checked against the known vulnerabilities.

    python scripts/audit.py                 # build/sbom.json (CycloneDX), then pip-audit
    python scripts/audit.py --ignore ID     # a vulnerability that was looked into

Exit status 1: something installed is known to be vulnerable. Where the index keeps no such data, or cannot be reached,
that is said and nothing fails. The two tools come from requirements.lock, into a folder of their own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import lock

SBOM = lock.ROOT / "build" / "sbom.json"
EXTRAS = ("brokers", "openai", "transformers", "worker")
_INSTALL_S = 600.0
_ASK_S = 300.0


def tools() -> Path:
    """The folder of the tools' programs; made when it is missing or holds others than the lock."""
    text = lock.as_text(lock.subset(map(lock.name_of, lock.wanted(groups=("audit",), bare=True))))
    folder = lock.cache_folder() / f"audit-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        (folder / "requirements.txt").write_text(text, "utf-8")
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", folder / "requirements.txt"], check=True, timeout=_INSTALL_S)
        (folder / "complete").touch()
    return folder / "bin"


def write_sbom(programs: Path, requirements: Path) -> int:
    """How many packages it lists."""
    SBOM.parent.mkdir(exist_ok=True)
    options = ["--pyproject", lock.ROOT / "pyproject.toml", "--output-reproducible", "--output-file", SBOM]
    # It warns that a list of packages says nothing about which of them needs which.
    command = [programs / "python", "-W", "ignore", programs / "cyclonedx-py", "requirements", *options, requirements]
    subprocess.run(command, check=True, timeout=_ASK_S)
    return len(json.loads(SBOM.read_text("utf-8"))["components"])


def ask(programs: Path, requirements: Path, ignored: list[str]) -> list[dict[str, Any]] | None:
    """What pip-audit says of each package; None when it could not ask."""
    options = ["--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json"]
    ignore = [part for name in ignored for part in ("--ignore-vuln", name)]
    command = [programs / "pip-audit", "-r", requirements, *options, *ignore]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=False)
    except subprocess.TimeoutExpired:
        return None
    try:
        return json.loads(done.stdout)["dependencies"]
    except ValueError:
        print(done.stderr.strip().rpartition("\n")[2], file=sys.stderr)
        return None


def verdict(found: list[dict[str, Any]] | None) -> tuple[bool, str]:
    """Whether all is well, and what to tell."""
    asked = [each for each in found or [] if "skip_reason" not in each]
    bad = [f"{each['name']} {each['version']}: {v['id']}" for each in asked for v in each["vulns"]]
    if bad:
        return False, "\n".join(["Known to be vulnerable:", *bad])
    if not asked:
        return True, "Known vulnerabilities: not looked up, this index has no data on them."
    return True, f"No known vulnerability in {len(asked)} packages."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ignore", action="append", default=[], metavar="ID")
    given = parser.parse_args()
    programs = tools()
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(lock.as_text(lock.subset(map(lock.name_of, lock.wanted(EXTRAS)))), "utf-8")
        print(f"{SBOM.relative_to(lock.ROOT)} lists {write_sbom(programs, requirements)} packages.")
        well, told = verdict(ask(programs, requirements, given.ignore))
    print(told)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
