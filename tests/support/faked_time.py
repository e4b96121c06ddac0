"""A program whose wall clock a test sets while it runs, by libfaketime; its monotonic clock goes on as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from support.requirements import require
from support.scripts import ROOT


@dataclass(frozen=True)
class WallClock:
    file: Path

    def step(self, seconds: float) -> None:
        """It is wrong by so many seconds from now on."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+.0f}\n")
        new.replace(self.file)

    @property
    def environ(self) -> dict[str, str]:
        """What the program's environment needs. It starts from nothing: what was begun before has its clock already."""
        return {
            "PYTHONPATH": str(ROOT),
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
        }


def wall_clock(folder: Path) -> WallClock:
    clock = WallClock(folder / "wall-clock")
    clock.step(0)
    require(_library(), "No libfaketime is installed.", "apt-get install faketime")
    return clock


def _library() -> Path | None:
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
