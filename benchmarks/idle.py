"""How soon the listener is ready, and what it costs while nothing happens: beside the durable engine alone.

python benchmarks/idle.py [--seconds 20]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
READY_S = 60.0

ENGINE_ALONE = """
import asyncio, sys
from dbos import DBOS, DBOSPortableJSONSerializer
async def main():
    DBOS(config={"name": "engine-alone", "system_database_url": "sqlite:///" + sys.argv[1],
                 "application_version": "1", "serializer": DBOSPortableJSONSerializer(), "use_listen_notify": False})
    @DBOS.workflow()
    async def nothing(): pass
    DBOS.launch()
    await DBOS.register_queue_async("runs", polling_interval_sec=5.0)
    print('"event": "ready"', file=sys.stderr, flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""


@dataclass(frozen=True)
class Figures:
    ready_s: float
    rss_mb: float
    cpu_percent: float


def measure(command: list[str], folder: Path, seconds: float) -> Figures:
    log = folder / "log"
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(command, stderr=out, stdout=out, cwd=folder)
    try:
        while '"event": "ready"' not in log.read_text("utf-8"):
            if process.poll() is not None or time.monotonic() - began > READY_S:
                sys.exit(f"not ready: {log.read_text('utf-8')[-2000:]}")
            time.sleep(0.01)
        ready = time.monotonic() - began
        seen = psutil.Process(process.pid)
        time.sleep(2)
        before = seen.cpu_times()
        time.sleep(seconds)
        after = seen.cpu_times()
        cpu = (after.user + after.system - before.user - before.system) / seconds * 100
        return Figures(ready, seen.memory_info().rss / 2**20, cpu)
    finally:
        process.terminate()
        process.wait(10)


def listener(folder: Path, seconds: float) -> Figures:
    (folder / "config.yaml").write_text("store: {kind: folder, root: drop}\nlog: {format: json}\n")
    return measure([sys.executable, "-m", "listener", "run"], folder, seconds)


def engine(folder: Path, seconds: float) -> Figures:
    return measure([sys.executable, "-c", ENGINE_ALONE, str(folder / "engine.sqlite")], folder, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long idleness is watched")
    seconds = parser.parse_args().seconds
    table = Table("process", "ready after s", "RSS MB", "CPU of one core %")
    for name, run in (("gpudrop run, first start", listener), ("the engine alone", engine)):
        with tempfile.TemporaryDirectory() as folder:
            figures = run(Path(folder), seconds)
            if run is listener:
                again = run(Path(folder), seconds)
        table.add_row(name, *(f"{v:.2f}" for v in (figures.ready_s, figures.rss_mb, figures.cpu_percent)))
        if run is listener:
            table.add_row("gpudrop run, again", *(f"{v:.2f}" for v in (again.ready_s, again.rss_mb, again.cpu_percent)))
    Console().print(table)


if __name__ == "__main__":
    main()
