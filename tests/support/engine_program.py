"""A program with a real engine, killed where it is told to be: `engine_program.py DATABASE TRACE KILL_AT`.

Every piece of work appends a line to TRACE; the line KILL_AT is the last thing the process does.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from listener.runs.engine import Engine, EngineSettings, Steps
from manifests.errors import InputMissing

CHILDREN = 4


class Tracing:
    def __init__(self, trace: Path, kill_at: str) -> None:
        self._trace = trace
        self._kill_at = kill_at
        self.ended = asyncio.Event()

    async def run(self, request: Any, steps: Steps) -> None:
        name = await steps.once("read", str, lambda: self._work("read", f"{request}!"))
        answers = await steps.children([f"{name}{i}" for i in range(CHILDREN)])
        assert answers == [f"done {name}{i}" for i in range(CHILDREN)], answers
        try:
            await steps.once("fail", str, lambda: self._fail())
        except InputMissing as e:
            assert (e.info.hint, e.info.where) == ("a hint", "audio")
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


async def main(database: str, trace: str, kill_at: str) -> None:
    story = Tracing(Path(trace), kill_at)
    engine = Engine(EngineSettings(f"sqlite:///{database}"), story)
    await engine.start()
    for _ in range(3):
        await engine.submit("the-run", "a")
    await asyncio.wait_for(story.ended.wait(), 60)
    await engine.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
