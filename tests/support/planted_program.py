"""A real engine whose database somebody else may have written to: `planted_program.py URL TRACE make|go-on`.

`make` records one step of the run "the-run" and is killed in the next. `go-on` tells what is there, and a run "later".
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from listener.runs.engine import EngineSettings, WorkflowEngine
from listener.runs.steps import Steps
from manifests.errors import GpuDropError

PLANTED = ("planted-pending", "planted-enqueued", "planted-ended")


class Story:
    def __init__(self, trace: Path, mode: str) -> None:
        self._trace = trace
        self._mode = mode

    async def run(self, request: Any, steps: Steps) -> None:
        try:
            self._note(f"read {await steps.once('read', str, lambda: self._value(request))}")
            await steps.once("write", str, self._kill)
            self._note(f"end {request}")
        except GpuDropError as e:
            self._note(f"{e.info.code} {request}")

    async def job(self, request: Any, steps: Steps) -> Any:
        return request

    async def _value(self, value: str) -> str:
        return value

    async def _kill(self) -> str:
        if self._mode == "make":
            os.kill(os.getpid(), signal.SIGKILL)
        return "written"

    def _note(self, line: str) -> None:
        with self._trace.open("a") as out:
            out.write(line + "\n")


async def main(url: str, trace: Path, mode: str) -> None:
    engine = WorkflowEngine(EngineSettings(url), Story(trace, mode))
    await engine.start()
    if mode == "make":
        await engine.submit("the-run", "the-run")
        await asyncio.sleep(60)
    async with asyncio.timeout(60):
        while "going on" in (await engine.fates(["the-run", *PLANTED])).values():
            await asyncio.sleep(0.1)
        await engine.submit("later", "later")
        while (await engine.fates(["later"]))["later"] == "going on":
            await asyncio.sleep(0.1)
    await engine.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
