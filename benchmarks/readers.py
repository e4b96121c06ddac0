"""What reading hostile documents costs: each kind of document in each shape, seconds of CPU and memory.

python benchmarks/readers.py [--bytes 10000000] [--style plain] [KIND …]

A subtitle is read and planned for a burnt-in caption of three shapes, a manifest read. Each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "tests" / "support" / "reader_program.py"
HANG_S = 600.0
MANIFEST_BYTES = 2**20
"""No manifest may have more."""


ENVIRON = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}


def told(*arguments: str) -> Any:
    command = [sys.executable, str(PROGRAM), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=True, cwd=ROOT, env=ENVIRON)
    return json.loads(done.stdout.splitlines()[-1])


def cells(kind: str, shape: str, size: int, style: str) -> tuple[str, str, str]:
    try:
        seen = told(kind, shape, str(size), style)
    except subprocess.TimeoutExpired:
        return f"> {HANG_S:.0f}", "", "not done"
    return f"{seen['took_s']:.2f}", f"{seen['grown'] / 2**20:.0f}", seen["outcome"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--bytes", type=int, default=10_000_000)
    parser.add_argument("--style", default="plain")
    args = parser.parse_args()
    table = Table(
        "kind", "shape", "CPU s", "MB", "outcome", title=f"{args.bytes:,} bytes, manifests {MANIFEST_BYTES:,}"
    )
    for kind, shapes in told("--shapes").items():
        size = min(args.bytes, MANIFEST_BYTES) if kind.startswith("job.") else args.bytes
        for shape in shapes if kind in args.kinds or not args.kinds else ():
            table.add_row(kind, shape, *cells(kind, shape, size, args.style))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
