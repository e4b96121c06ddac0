"""A real engine and starter, killed where they are told to be: `engine_program.py FOLDER KILL_AT JOBS VERSION`.

Every piece of work appends a line to FOLDER/trace; the line KILL_AT is the last thing the process does. VERSION is that
of the recorded steps: "" for the engine's own.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from listener.ledger.database import Database
from listener.ledger.run_rows import RunRow
from listener.ledger.runs import RunLedger
from listener.runs import engine as engine_module
from listener.runs.admission import Admission
from listener.runs.engine import EngineSettings, WorkflowEngine
from listener.runs.scheduler import RunScheduler
from listener.runs.steps import Steps
from manifests.errors import InputMissing

RUN = "the-run"


class Tracing:
    def __init__(self, trace: Path, kill_at: str, jobs: int, runs: RunLedger) -> None:
        self._trace = trace
        self._kill_at = kill_at
        self._jobs = jobs
        self._runs = runs
        self.ended = asyncio.Event()

    async def run(self, request: Any, steps: Steps) -> None:
        await self._runs.update(RUN, state="running", at=time.time())
        name = await steps.once("read", str, lambda: self._work("read", f"{request}!"))
        answers = await steps.children([f"{name}{i}" for i in range(self._jobs)])
        assert answers == [f"done {name}{i}" for i in range(self._jobs)], answers
        try:
            await steps.once("fail", str, lambda: self._fail())
        except InputMissing as e:
            assert (e.info.hint, e.info.where) == ("a hint", "audio")
            if steps.resumed:
                self._note("resumed")
            await steps.once("write", str, lambda: self._work("write", ",".join(answers)))
        self.ended.set()

    async def job(self, request: Any, steps: Steps) -> Any:
        first = await steps.once("submit", str, lambda: self._work(f"submit {request}", f"job {request}"))
        await steps.pause(0.05)
        second = await steps.once("wait", str, lambda: self._work(f"wait {request}", f"done {request}"))
        assert first == f"job {request}"
        return second

    async def _work(self, line: str, result: str) -> str:
        await asyncio.sleep(random.uniform(0, 0.1))  # children overtake each other
        self._note(line)
        return result

    async def _fail(self) -> str:
        self._note("fail")
        raise InputMissing("not there", hint="a hint", where="audio")

    def _note(self, line: str) -> None:
        with self._trace.open("a") as out:
            out.write(line + "\n")
        if line == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(folder: Path, kill_at: str, jobs: int, version: str) -> None:
    if version:
        engine_module.APPLICATION_VERSION = version
    database = Database(f"sqlite:///{folder}/ledger.sqlite")
    await database.open()
    runs = RunLedger(database)
    workflows = Tracing(folder / "trace", kill_at, jobs, runs)
    engine = WorkflowEngine(EngineSettings(f"sqlite:///{folder}/engine.sqlite"), workflows)
    await engine.start()
    await runs.add(RunRow(RUN, "b", "a.job.json", "manifests", "accepted", time.time(), time.time(), "a"))
    wanted = asyncio.Event()
    admission = Admission(wanted.set)
    start = RunScheduler(runs, engine, wanted, member="m", limit=9, parked=lambda: 0, admission=admission)
    starter = asyncio.create_task(start.run())
    for _ in range(3):
        await engine.submit(RUN, "a")
    async with asyncio.timeout(240):
        await workflows.ended.wait()
    starter.cancel()
    await asyncio.wait({starter})
    await engine.close()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]))
