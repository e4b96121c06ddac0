"""What listing a large bucket costs: gpudrop's reconcile beside minio's client alone, against the same made-up server.

python benchmarks/listing.py [--keys 1000000]

The server makes its pages on the same machine, so keys a second are those of both together; CPU is the client's own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
SUPPORT = ROOT / "tests" / "support"
HANG_S = 3600.0

PEER = """
import json, sys, time
import psutil
from minio import Minio
process = psutil.Process()
client = Minio(sys.argv[1].partition("://")[2], "key", "secret", secure=False, region="us-east-1")
before, began, cpu, n, peak = process.memory_info().rss, time.monotonic(), time.process_time(), 0, 0
for each in client.list_objects("bucket", recursive=True):
    n += 1
    if n % 1000 == 0:
        peak = max(peak, process.memory_info().rss)
took, cpu = time.monotonic() - began, time.process_time() - cpu
print(json.dumps({"events": n, "took_s": took, "cpu_s": cpu, "grown": peak - before}))
"""


def measured(*argv: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, *argv], capture_output=True, text=True, timeout=HANG_S, check=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def rows(keys: int, odd: list[str], table: Table) -> None:
    argv = [sys.executable, str(SUPPORT / "listing_server.py"), "--keys", str(keys)]
    argv += [part for each in odd for part in ("--odd", each)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        endpoint = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        program = str(SUPPORT / "listing_program.py")
        kind = f", {len(odd)} odd stretches" if odd else ""
        for name, command in (
            (f"reconcile, all known{kind}", (program, endpoint, "known")),
            (f"reconcile, all news{kind}", (program, endpoint)),
            (f"minio's list_objects alone{kind}", ("-c", PEER, endpoint)),
        ):
            seen = measured(*command)
            figures = (keys / seen["took_s"], seen["cpu_s"] / keys * 1e6, seen["grown"] / 2**20)
            late = f"{seen['late_s'] * 1000:.0f}" if "late_s" in seen else "-"
            table.add_row(name, *(f"{figure:,.1f}" for figure in figures), late)
        server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    keys = parser.parse_args().keys
    table = Table("listing", "keys/s", "CPU µs a key", "RSS grown MB", "loop late ms", title=f"{keys:,} keys")
    rows(keys, [], table)
    rows(keys, [f"{keys * part // 10}:{keys // 1000}" for part in range(10)], table)
    Console().print(table)


if __name__ == "__main__":
    main()
