"""Ledger and engine compared: what one of them has lost, broken off or already ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from listener.cluster.base import SingleListener
from listener.defects import DEFECT
from listener.ledger.database import Database
from listener.ledger.runs import RunLedger
from listener.run_request import RunRequest
from listener.runs.adoption import Adoption, SidecarSignature
from listener.runs.engine_base import Fate
from listener.runs.finalizer import RunSummary
from listener.runs.manifests import ResolvedManifest
from listener.runs.memory_engine import MemoryEngine, RecordedRun
from listener.runs.recovery import Recovery
from listener.runs.retention import sweep_old_runs
from manifests.errors import RunSuperseded
from support.runs import BUCKET, NOW, RunBench

ASKED = ResolvedManifest("transcribe", {"operation": "transcribe"}, None)


class Others(SingleListener):
    """A listener among others, of whom `gone` are gone."""

    def __init__(self, *gone: str, look: Callable[[], None]) -> None:
        """`look` is called before the others are told of."""
        super().__init__()
        self._gone = gone
        self._look = look

    @asynccontextmanager
    async def orphans(self, among: Collection[str]) -> AsyncGenerator[tuple[str, ...]]:
        self._look()
        yield tuple(member for member in self._gone if member in among)


async def run_of(bench: RunBench, name: str, *, member: str = "m1", state: Any = "running") -> RunRequest:
    await bench.put(f"in/{name}.mp3")
    run = await bench.drop(f"in/{name}", {"audio": f"{name}.mp3", "path": f"{name}/"}, member=member)
    await bench.runs.update(run.run_id, state=state, at=bench.moment())
    return run


def recorded(run: RunRequest, fate: Fate) -> dict[str, RecordedRun]:
    return {run.run_id: RecordedRun({}, "local", fate=fate)}


async def states(bench: RunBench, **runs: RunRequest) -> dict[str, tuple[str, str]]:
    rows = await bench.runs.rows([run.run_id for run in runs.values()])
    return {name: (rows[run.run_id].state, rows[run.run_id].error_code) for name, run in runs.items()}


async def test_every_run_comes_to_its_end_whatever_was_lost(bench: RunBench) -> None:
    """All in one look: it takes two seconds, since a run may be on its way into the engine."""
    lost = await run_of(bench, "lost")
    broken = await run_of(bench, "broken")
    gone = await run_of(bench, "gone", member="m2")
    elsewhere = await run_of(bench, "elsewhere", member="m3")
    going_on = await run_of(bench, "going-on")
    said, silent, replaced = [await run_of(bench, name) for name in ("said", "silent", "replaced")]
    await bench.parts.finalizer.done(said, ASKED, RunSummary("done", (), {}, {}))
    sidecar = await bench.done(said)
    await bench.set_back(said)
    await bench.runs.request_end(replaced.run_id, "superseded")
    records = recorded(broken, "broken") | recorded(going_on, "going on")
    for run in (said, silent, replaced):
        records |= recorded(run, "over")
    # One that the engine gets to know while it is looked at goes on.
    arriving = await run_of(bench, "arriving", member="m2")
    engine = MemoryEngine(bench.story, records, clock=bench.moment)
    cluster = Others("m2", look=lambda: records.update(recorded(arriving, "going on")))
    recovery = Recovery(engine, bench.runs, bench.parts.adoption, cluster, clock=bench.moment)
    task = asyncio.ensure_future(recovery.run())
    told = {"lost": lost, "broken": broken, "gone": gone}

    async def over() -> bool:
        return all(state == "done" for state, _ in (await states(bench, **told)).values())

    await bench.eventually(over)
    task.cancel()
    await asyncio.wait({task})
    await engine.close()
    assert await states(bench, said=said, silent=silent, replaced=replaced) == {
        "said": ("done", ""),
        "silent": ("failed", DEFECT.code),
        "replaced": ("superseded", RunSuperseded.code),
    }
    assert await bench.done(said) == sidecar
    assert await states(bench, elsewhere=elsewhere, going_on=going_on, arriving=arriving) == dict.fromkeys(
        ("elsewhere", "going_on", "arriving"), ("running", "")
    )
    row = await bench.runs.find(gone.run_id)
    assert row and row.member == "m1"


async def test_where_nothing_is_doubtful_nothing_is_done(bench: RunBench) -> None:
    run = await run_of(bench, "talk")
    engine = MemoryEngine(bench.story, recorded(run, "going on"))
    task = asyncio.ensure_future(
        Recovery(engine, bench.runs, bench.parts.adoption, SingleListener(), clock=bench.moment).run()
    )
    done, _ = await asyncio.wait({task}, timeout=0.2)
    assert not done
    assert await states(bench, run=run) == {"run": ("running", "")}
    task.cancel()
    await asyncio.wait({task})


async def test_a_ledger_that_is_away_ends_nothing(
    bench: RunBench, closed_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("listener.runs.recovery.EVERY_S", 0.0)
    ledger, engine = RunLedger(closed_database), MemoryEngine(bench.story)
    recovery = Recovery(engine, ledger, bench.parts.adoption, SingleListener(), clock=bench.moment)
    with capture_logs() as logs:
        task = asyncio.ensure_future(recovery.run())
        await bench.until(lambda: [entry["event"] for entry in logs].count("runs_not_compared") > 1)
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})


# An end that only the sidecar tells of.

BODY = {"code": 200, "outputs": [{"key": "in/o.srt"}, {"key": "far/o.srt"}, {"key": "in/none.srt"}]}


async def told_by(bench: RunBench, run: RunRequest, **changes: Any) -> None:
    document = {**BODY, "run_id": run.run_id, "key": run.key, "version": run.version, **changes}
    await bench.put(run.sidecar("done"), document)


async def test_a_sidecar_makes_only_what_lies_beside_the_drop_the_runs(bench: RunBench) -> None:
    run = await run_of(bench, "talk")
    await told_by(bench, run)
    await bench.put("in/o.srt")
    await bench.put("far/o.srt")
    await bench.put(run.sidecar("status"), {"run_id": run.run_id, "key": run.key})
    assert await bench.parts.adoption.ended(run)
    assert await bench.parts.adoption.is_recorded(run)
    assert await bench.objects.written(BUCKET, "in/o.srt")
    assert await bench.objects.written(BUCKET, "far/o.srt") is None
    assert await bench.document(run, "status") is None


@pytest.mark.parametrize(
    ("changes", "adopted"),
    [
        ({}, True),
        ({"run_id": "a-later-run-of-this-version"}, True),
        ({"run_id": "another", "version": "another"}, False),
        ({"key": "in/other.job.json"}, False),
        ({"code": None}, False),
    ],
)
async def test_a_run_begins_unless_its_version_has_ended(
    bench: RunBench, changes: dict[str, Any], adopted: bool
) -> None:
    run = await run_of(bench, "talk")
    await told_by(bench, run, **changes)
    body = await bench.parts.adoption.begin(run)
    assert (body is not None) is adopted
    # Another run's last word is cleared away: it would be taken for this one's.
    assert (await bench.document(run, "done") is not None) is adopted
    assert await bench.parts.adoption.ended(run) is adopted or changes.get("run_id") == "a-later-run-of-this-version"


async def test_a_callback_is_made_only_of_what_is_proven_to_be_the_runs_own(bench: RunBench) -> None:
    run = await run_of(bench, "talk")
    seal = SidecarSignature("whsec_" + "c2VjcmV0IG9mIHRoZXNlIHRlc3RzIGFsb25l")
    sealed = Adoption(bench.objects, bench.runs, bench.parts.publisher, bench.fence, clock=bench.moment, signature=seal)
    assert await sealed.final_sidecar(run) is None
    await told_by(bench, run)
    assert await sealed.final_sidecar(run) is None
    await bench.put(run.sidecar("done"), seal.sign(await bench.get(run.sidecar("done")) or b""))
    assert await sealed.final_sidecar(run)


async def test_old_runs_are_forgotten_everywhere(bench: RunBench) -> None:
    run = await run_of(bench, "talk", state="done")
    engine = MemoryEngine(bench.story, recorded(run, "over"), clock=bench.moment)
    task = asyncio.ensure_future(sweep_old_runs(engine, bench.runs, bench.callbacks, keep_s=-1.0, clock=bench.moment))

    async def forgotten() -> bool:
        return await bench.runs.find(run.run_id) is None

    await bench.eventually(forgotten)
    assert await engine.fates([run.run_id]) == {}
    task.cancel()
    await asyncio.wait({task})
    assert bench.moment() == NOW
