"""What recorded steps must do, whoever records them: DBOS, or this process's memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from listener.runs.engine import EngineSettings, WorkflowEngine
from listener.runs.memory_engine import MemoryEngine, Records
from listener.runs.steps import Released, Steps
from manifests.errors import GpuDropError, InputMissing
from support.deadlines import HANG_S

Told = Callable[[Any, Steps], Awaitable[Any]]


@dataclass(frozen=True)
class Answer:
    words: tuple[str, ...]
    number: float = 0.0


@dataclass
class Tale:
    """A story and its job, and what was done in all lives of it. `crash` ends a life: nothing comes after it."""

    run_it: Told
    job_it: Told | None = None
    done: list[str] = field(default_factory=list[str])
    crashed: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, request: Any, steps: Steps) -> None:
        try:
            await self.run_it(request, steps)
        except Released:
            self.released.set()
            raise
        self.over.set()

    async def job(self, request: Any, steps: Steps) -> Any:
        assert self.job_it
        return await self.job_it(request, steps)

    async def crash(self) -> None:
        self.crashed.set()
        await asyncio.Event().wait()

    async def ended(self) -> None:
        """Waits for the end of a life, whichever it is."""
        ends = [asyncio.ensure_future(each.wait()) for each in (self.over, self.crashed, self.released)]
        async with asyncio.timeout(HANG_S):
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for each in ends:
            each.cancel()
        self.crashed.clear()

    def work(self, name: str, result: Any = "") -> Callable[[], Awaitable[Any]]:
        async def done() -> Any:
            self.done.append(name)
            return result

        return done


class Lives(Protocol):
    async def live(self, tale: Tale) -> None:
        """One life: the story is told from the top until it is over, released, or crashes."""
        ...


class InEngine:
    def __init__(self, folder: Path) -> None:
        self._url = f"sqlite:///{folder}/engine.sqlite"

    async def live(self, tale: Tale) -> None:
        await _lived(WorkflowEngine(EngineSettings(self._url), tale), tale)


class InMemory:
    def __init__(self) -> None:
        self._records: Records = {}

    async def live(self, tale: Tale) -> None:
        await _lived(MemoryEngine(tale, self._records), tale)


async def _lived(engine: WorkflowEngine | MemoryEngine, tale: Tale) -> None:
    await engine.start()
    try:
        await engine.submit("the-run", "asked")
        await tale.ended()
    finally:
        await engine.close()


@pytest.fixture(params=["engine", "memory"])
def lives(request: pytest.FixtureRequest, tmp_path: Path) -> Lives:
    return InEngine(tmp_path) if request.param == "engine" else InMemory()


async def test_what_was_done_is_not_done_again_and_comes_back_as_it_was(lives: Lives) -> None:
    found: list[Any] = []

    async def run(request: Any, steps: Steps) -> None:
        assert request == "asked"
        found.append(await steps.once("first", Answer, tale.work("first", Answer(("a", "ü"), 0.5))))
        found.append(steps.resumed)
        if len(found) == 2:
            await steps.once("second", str, tale.crash)  # pyright: ignore[reportArgumentType]
        await steps.once("second", str, tale.work("second"))

    tale = Tale(run)
    await lives.live(tale)
    await lives.live(tale)
    assert found == [Answer(("a", "ü"), 0.5), False, Answer(("a", "ü"), 0.5), True]
    assert tale.done == ["first", "second"]


async def test_an_error_is_an_outcome_as_well(lives: Lives) -> None:
    found: list[Any] = []

    async def fail() -> str:
        tale.done.append("fail")
        raise InputMissing("not there", hint="a hint", where="audio")

    async def run(request: Any, steps: Steps) -> None:
        try:
            await steps.once("fail", str, fail)
        except GpuDropError as e:
            found.append((type(e), e.info, steps.resumed))
        if len(found) == 1:
            await tale.crash()

    tale = Tale(run)
    await lives.live(tale)
    await lives.live(tale)
    info = InputMissing("not there", hint="a hint", where="audio").info
    assert found == [(InputMissing, info, False), (InputMissing, info, True)]
    assert tale.done == ["fail"]


async def test_of_a_step_that_is_released_nothing_is_recorded(lives: Lives) -> None:
    async def leave() -> str:
        tale.done.append("leave")
        raise Released("later")

    async def run(request: Any, steps: Steps) -> None:
        await steps.once("first", str, tale.work("first"))
        with pytest.raises(Released, match="later"):
            await steps.once("leave", str, leave)
        if tale.done.count("leave") == 1:
            await tale.crash()

    tale = Tale(run)
    await lives.live(tale)
    await lives.live(tale)
    assert tale.done == ["first", "leave", "leave"]


async def test_after_a_pause_only_its_rest_is_waited_for(lives: Lives) -> None:
    now = asyncio.get_running_loop().time
    began: list[float] = []
    ended: list[float] = []

    async def run(request: Any, steps: Steps) -> None:
        began.append(now())
        if len(began) == 1:
            asyncio.get_running_loop().call_later(1.0, tale.crashed.set)
        await steps.pause(2.0)
        ended.append(now())

    tale = Tale(run)
    await lives.live(tale)
    await lives.live(tale)
    assert len(began) == 2
    assert ended[0] - began[0] >= 1.9
    assert ended[0] - began[1] < 2.0, "all of it was waited for again"


@pytest.mark.parametrize("count", [1, 3])
async def test_children_are_told_side_by_side_and_those_that_ended_are_not_told_again(lives: Lives, count: int) -> None:
    found: list[Any] = []
    worked = [asyncio.Event() for _ in range(count)]

    async def job(request: Any, steps: Steps) -> Any:
        await steps.once("attempt 1", str, tale.work(f"job {request}"))
        worked[int(request)].set()
        if request == count - 1 and "crash" not in tale.done:
            tale.done.append("crash")
            await asyncio.gather(*(each.wait() for each in worked))
            await tale.crash()
        return {"of": request}

    async def run(request: Any, steps: Steps) -> None:
        found.append(await steps.children(list(range(count))))

    tale = Tale(run, job)
    await lives.live(tale)
    await lives.live(tale)
    assert found == [[{"of": i} for i in range(count)]]
    assert sorted(tale.done) == sorted(["crash", *(f"job {i}" for i in range(count))])


async def test_a_job_has_no_children(lives: Lives) -> None:
    refused: list[str] = []

    async def job(request: Any, steps: Steps) -> Any:
        with pytest.raises(RuntimeError) as e:
            await steps.children([1])
        refused.append(str(e.value))

    async def run(request: Any, steps: Steps) -> None:
        await steps.children([1])

    await lives.live(Tale(run, job))
    assert refused == ["a job has no children"]
