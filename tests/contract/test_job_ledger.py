"""The ledger of jobs on each database: nothing is sent unrecorded, and no limit is passed, whoever asks at once."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from listener.ledger.costs import CostLedger
from listener.ledger.database import Database
from listener.ledger.job_rows import JobRow
from listener.ledger.jobs import JobLedger
from listener.ledger.quotas import QuotaLimits, QuotaRefusal, Spending, UsageCounter, next_day
from listener.ledger.run_rows import RunRow, RunState
from listener.ledger.runs import RunLedger
from manifests.errors import StoreUnavailable
from support.deadlines import HANG_S
from support.jobs import ANYTHING, job
from support.runs import Moment

DAY = 86400.0
NOON = 20_000 * DAY + DAY / 2


@pytest.fixture
async def other(ledger_url: str, database: Database) -> AsyncIterator[Database]:
    """Another listener's, on the same tables."""
    other = Database(ledger_url)
    await other.open()
    yield other
    await other.close()


@pytest.fixture
def clock() -> Moment:
    return Moment(NOON)


@pytest.fixture
def jobs(database: Database, clock: Moment) -> JobLedger:
    return JobLedger(database, clock)


async def only(jobs: JobLedger, entry: str) -> JobRow:
    [row] = await jobs.of_attempt(f"run-{entry}-j0", 1)
    return row


async def test_a_job_is_on_record_from_intent_to_end(jobs: JobLedger, clock: Moment) -> None:
    meant = job("a", intended=NOON)
    assert await jobs.reserve(meant, ANYTHING) is None
    assert await only(jobs, "a") == meant
    clock.now += 1
    await jobs.sent("a", endpoint_id="ep1", job_id="j1")
    sent = replace(meant, state="sent", endpoint_id="ep1", job_id="j1", sent=NOON + 1)
    assert await only(jobs, "a") == sent
    clock.now += 9
    await jobs.ended("a", outcome="done", delay_ms=2000, execution_ms=7000, usd=0.007)
    ended = replace(sent, state="ended", outcome="done", delay_ms=2000, execution_ms=7000, usd=0.007, ended=NOON + 10)
    assert await only(jobs, "a") == ended
    assert await jobs.open_rows() == []
    assert await jobs.spent_by_run("run-a") == pytest.approx(0.007)
    assert await jobs.spent_by_run("run-b") == 0.0


async def test_the_first_end_told_is_the_one_kept(jobs: JobLedger) -> None:
    await jobs.reserve(job("a"), ANYTHING)
    await jobs.ended("a", outcome="done", execution_ms=5, usd=0.5)
    ended = await only(jobs, "a")
    await jobs.ended("a", outcome="lost", usd=9.0)
    await jobs.sent("a", endpoint_id="x", job_id="y")
    await jobs.unknown("a")
    await jobs.delete("a")
    assert await only(jobs, "a") == ended


async def test_a_job_thought_lost_that_had_gone_on_costs_what_it_did(jobs: JobLedger) -> None:
    await jobs.reserve(job("a"), ANYTHING)
    await jobs.ended("a", outcome="lost")
    budget = QuotaLimits(None, None, 1.4)
    _, refused, _ = await asyncio.gather(
        jobs.ended("a", outcome="done", execution_ms=500, usd=0.5),
        jobs.reserve(job("b"), budget),
        jobs.ended("a", outcome="done", execution_ms=900, usd=0.9),
    )
    assert refused and refused.spent == 0.5
    row = await only(jobs, "a")
    assert (row.outcome, row.execution_ms, row.usd) == ("done", 500, 0.5)


async def test_jobs_of_runs_that_have_ended_are_given_up_in_the_end(
    jobs: JobLedger, database: Database, clock: Moment
) -> None:
    runs = RunLedger(database)
    states: dict[str, RunState] = {"going": "running", "gone": "failed", "over": "cancelled", "new": "failed"}
    for entry, state in states.items():
        run = RunRow(f"run-{entry}", "b", entry, "songs", "accepted", 1.0, 1.0, request={})
        await runs.add(replace(run, state=state))
        await jobs.reserve(job(entry, intended=NOON), ANYTHING)
        await jobs.sent(entry, endpoint_id="ep1", job_id=entry)
    await jobs.reserve(job("unheard", intended=NOON), ANYTHING)
    await jobs.ended("new", outcome="taken_back")
    await jobs.reserve(job("new-2", run_id="run-new", intended=NOON + 100), ANYTHING)
    assert await jobs.abandon(NOON + 50) == 3
    assert [row.entry for row in await jobs.open_rows()] == ["going", "new-2"]
    assert await jobs.spent_by_run("run-gone") == 1.0
    assert await jobs.spent_by_run("run-unheard") == 0.0
    assert (await only(jobs, "gone")).outcome == "abandoned"


async def test_a_job_nobody_knows_of_keeps_its_money_reserved_until_it_is_found(jobs: JobLedger) -> None:
    await jobs.reserve(job("a"), ANYTHING)
    await jobs.unknown("a")
    assert (await only(jobs, "a")).state == "unknown"
    refused = await jobs.reserve(job("b"), QuotaLimits(None, None, 1.5))
    assert refused and (refused.reason, refused.spent, refused.limit) == ("day_budget", 1.0, 1.5)
    await jobs.sent("a", endpoint_id="ep1", job_id="j1")
    await jobs.unknown("a")
    assert (await only(jobs, "a")).state == "sent"


async def test_a_dropped_job_was_never_meant(jobs: JobLedger) -> None:
    limits = QuotaLimits(1, 1.0, 1.0)
    await jobs.reserve(job("a"), limits)
    assert await jobs.reserve(job("b"), limits)
    await jobs.delete("a")
    await jobs.delete("never heard of")
    assert await jobs.of_attempt("run-a-j0", 1) == []
    assert await jobs.reserve(job("b"), limits) is None


async def test_the_jobs_of_an_attempt_come_in_order(jobs: JobLedger) -> None:
    task = "run-a-j0"
    for number in range(1, 12):
        await jobs.reserve(job(f"{task}-2-{number}", task_id=task, attempt=2), ANYTHING)
    await jobs.reserve(job(f"{task}-1-1", task_id=task, attempt=1), ANYTHING)
    assert [row.entry for row in await jobs.of_attempt(task, 2)] == [f"{task}-2-{n}" for n in range(1, 12)]


async def test_places_at_an_endpoint_are_counted_and_given_back(jobs: JobLedger) -> None:
    two = QuotaLimits(2, None, None)
    assert [await jobs.reserve(job(entry), two) is None for entry in "abc"] == [True, True, False]
    refused = await jobs.reserve(job("c"), two)
    assert refused and (refused.reason, refused.spent, refused.limit) == ("concurrency", 2, 2)
    assert NOON < refused.until < NOON + 60
    assert await jobs.reserve(job("d", endpoint="slow"), two) is None
    assert await jobs.open_jobs() == {"fast": 2, "slow": 1}
    await jobs.ended("a", outcome="done")
    assert await jobs.reserve(job("c"), two) is None
    assert await jobs.reserve(job("e"), QuotaLimits(0, None, None))


async def test_a_budget_counts_what_is_paid_and_what_is_reserved(jobs: JobLedger) -> None:
    limits = QuotaLimits(None, 2.5, 3.5)
    assert await jobs.reserve(job("a"), limits) is None
    await jobs.ended("a", outcome="done", usd=0.4)
    assert await jobs.reserve(job("b"), limits) is None
    assert await jobs.reserve(job("c"), limits) is None
    refused = await jobs.reserve(job("d"), limits)
    assert refused and refused.spent == pytest.approx(2.4)
    assert refused == QuotaRefusal("trigger_budget", NOON + 60, refused.spent, 2.5)
    assert await jobs.reserve(job("e", trigger="talks"), limits) is None
    refused = await jobs.reserve(job("f", trigger="talks"), limits)
    assert refused and (refused.reason, refused.spent) == ("day_budget", pytest.approx(3.4))
    assert await jobs.reserve(job("g", trigger="talks", estimate_usd=0.0), limits) is None


async def test_money_that_is_spent_comes_back_with_the_next_day(jobs: JobLedger, clock: Moment) -> None:
    limits = QuotaLimits(None, None, 2.0)
    await jobs.reserve(job("a"), limits)
    await jobs.ended("a", outcome="done", usd=1.5)
    refused = await jobs.reserve(job("b"), limits)
    assert refused and refused.until == next_day(NOON) == 20_001 * DAY
    clock.now = refused.until - 0.001
    assert await jobs.reserve(job("b"), limits)
    clock.now = refused.until
    assert await jobs.reserve(job("b"), limits) is None
    clock.now += DAY
    assert await jobs.reserve(job("c"), limits) is None
    assert await jobs.reserve(job("d"), limits), "jobs that are open count on every day until they end"


async def test_a_reservation_whose_answer_was_lost_is_made_again_elsewhere(jobs: JobLedger) -> None:
    tight = QuotaLimits(1, 1.0, 1.0)
    assert await jobs.reserve(job("a"), tight) is None
    assert await jobs.reserve(job("a", endpoint="slow"), tight) is None
    assert await jobs.open_jobs() == {"slow": 1}
    await jobs.sent("a", endpoint_id="ep1", job_id="j1")
    assert await jobs.reserve(job("a"), tight) is None
    row = await only(jobs, "a")
    assert (row.state, row.endpoint, row.job_id) == ("sent", "slow", "j1")


async def test_what_is_asked_for_at_once_passes_no_limit(jobs: JobLedger) -> None:
    asked = await asyncio.gather(*(jobs.reserve(job(f"a{i}"), QuotaLimits(7, None, None)) for i in range(300)))
    assert asked.count(None) == 7
    asked = await asyncio.gather(
        *(jobs.reserve(job(f"b{i}", endpoint="slow"), QuotaLimits(None, None, 17.0)) for i in range(300))
    )
    assert asked.count(None) == 10
    assert await jobs.open_jobs() == {"fast": 7, "slow": 10}


async def test_what_is_freed_is_there_for_the_next_that_asks_even_in_one_transaction(jobs: JobLedger) -> None:
    tight = QuotaLimits(2, 2.0, 2.0)
    await jobs.reserve(job("a"), tight)
    await jobs.reserve(job("b"), tight)
    early, _, late, _, last, over = await asyncio.gather(
        jobs.reserve(job("c"), tight),
        jobs.ended("a", outcome="done", usd=0.25),
        jobs.reserve(job("d", estimate_usd=0.75), tight),
        jobs.delete("b"),
        jobs.reserve(job("e"), tight),
        jobs.reserve(job("f", estimate_usd=0.01), QuotaLimits(None, None, 2.0)),
    )
    assert [early is None, late is None, last is None, over is None] == [False, True, True, False]
    assert over and (over.reason, over.spent) == ("day_budget", pytest.approx(2.0))


async def test_two_listeners_together_pass_no_limit(
    jobs: JobLedger, database: Database, other: Database, clock: Moment
) -> None:
    theirs = JobLedger(other, clock)

    async def ask(ledger: JobLedger, who: str, number: int) -> int:
        """One after the other, each at whatever moment the database lets it."""
        taken = 0
        for i in range(25):
            limits = QuotaLimits(40, 31.0, 50.0)
            taken += await ledger.reserve(job(f"{who}{number}-{i}"), limits) is None
        return taken

    taken = await asyncio.gather(*(ask(ledger, who, n) for ledger, who in ((jobs, "a"), (theirs, "b")) for n in (1, 2)))
    assert sum(taken) == 31
    assert await theirs.open_jobs() == await jobs.open_jobs() == {"fast": 31}


@pytest.mark.parametrize("seed", range(3))
async def test_jobs_that_keep_to_their_estimates_never_pass_a_budget(
    jobs: JobLedger, other: Database, clock: Moment, seed: int
) -> None:
    rng = random.Random(seed)
    ledgers = [jobs, JobLedger(other, clock)]
    caps = {"songs": 6.0, "talks": 3.0}
    open_: list[JobRow] = []
    for step in range(60):
        ledger = rng.choice(ledgers)
        if open_ and rng.random() < 0.45:
            row = open_.pop(rng.randrange(len(open_)))
            await ledger.ended(row.entry, outcome="done", usd=row.estimate_usd * rng.random())
        else:
            trigger = rng.choice(list(caps))
            row = job(f"{step}", trigger=trigger, estimate_usd=rng.choice([0.1, 0.3, 0.7, 1.9]))
            if await ledger.reserve(row, QuotaLimits(None, caps[trigger], 8.0)) is None:
                open_.append(row)
        today = await CostLedger(other).today(clock.now)
        assert all(spent.usd <= caps[name] + 1e-6 for name, spent in today.triggers.items())
        assert today.all.usd <= 8.0 + 1e-6
        assert today.open_jobs == len(open_)


async def test_an_answer_is_given_only_when_the_other_listener_sees_it(
    jobs: JobLedger, other: Database, clock: Moment
) -> None:
    theirs = JobLedger(other, clock)
    for entry in map(str, range(20)):
        await jobs.reserve(job(entry), ANYTHING)
        assert (await only(theirs, entry)).state == "intended"
        await jobs.ended(entry, outcome="done")
        assert (await only(theirs, entry)).state == "ended"


async def test_calls_that_come_at_once_share_a_few_transactions(
    postgres_url: str, postgres_ledger: str, clock: Moment
) -> None:
    database = Database(postgres_ledger)
    await database.open()
    ledger = JobLedger(database, clock)
    await asyncio.gather(*(ledger.reserve(job(f"{i}"), ANYTHING) for i in range(400)))
    await database.close()
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT count(*), count(DISTINCT xmin::text) FROM gpudrop_jobs").fetchone()
    assert found and found[0] == 400
    assert found[1] <= 4


async def test_a_caller_that_is_cancelled_leaves_the_others_alone(jobs: JobLedger) -> None:
    asking = [asyncio.create_task(jobs.reserve(job(f"{i}"), ANYTHING)) for i in range(50)]
    await asyncio.sleep(0)
    for task in asking[::2]:
        task.cancel()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert answers[1::2] == [None] * 25
    assert await jobs.reserve(job("x"), ANYTHING) is None
    assert {row.entry for row in await jobs.open_rows()} == {"x", *(f"{i}" for i in range(1, 50, 2))}


async def test_what_a_cancelled_caller_had_to_say_is_written_down(jobs: JobLedger) -> None:
    await jobs.reserve(job("a"), ANYTHING)
    saying = asyncio.create_task(jobs.sent("a", endpoint_id="ep1", job_id="j1"))
    await asyncio.sleep(0)
    saying.cancel()
    await asyncio.wait([saying])
    await jobs.reserve(job("b"), ANYTHING)
    assert (await only(jobs, "a")).job_id == "j1"


async def test_a_reservation_nobody_waited_for_is_given_back(database: Database, other: Database) -> None:
    begun, going_on = threading.Event(), threading.Event()

    def slow_clock() -> float:
        begun.set()
        going_on.wait(HANG_S)
        return NOON

    jobs = JobLedger(database, slow_clock)
    asking = [asyncio.create_task(jobs.reserve(job(f"{i}"), ANYTHING)) for i in range(4)]
    assert await asyncio.to_thread(begun.wait, HANG_S)
    for number in (0, 2):
        asking[number].cancel()
    await asyncio.wait([asking[0], asking[2]])
    going_on.set()
    assert await asyncio.gather(asking[1], asking[3]) == [None, None]
    await jobs.delete("3")
    assert [row.entry for row in await JobLedger(other, slow_clock).open_rows()] == ["1"]


async def test_a_database_that_is_away_is_told_to_every_caller(
    jobs: JobLedger, ledger_url: str, request: pytest.FixtureRequest
) -> None:
    await jobs.reserve(job("a"), ANYTHING)
    with away(ledger_url, request):
        asked = [jobs.reserve(job(f"b{i}"), ANYTHING) for i in range(30)]
        answers = await asyncio.gather(*asked, jobs.ended("a", outcome="done"), return_exceptions=True)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    assert len({id(answer) for answer in answers}) == 31
    assert [row.entry for row in await jobs.open_rows()] == ["a"]
    assert await jobs.reserve(job("c"), ANYTHING) is None


@contextmanager
def away(url: str, request: pytest.FixtureRequest) -> Generator[None]:
    if url.startswith("sqlite"):
        with renamed_table(url):
            yield
        return
    server: Any = request.getfixturevalue("postgres_server")
    name = url.rpartition("/")[2]
    with psycopg.connect(f"{server.url}/postgres", autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        yield
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


@contextmanager
def renamed_table(url: str) -> Generator[None]:
    engine = sa.create_engine(url)
    with engine.begin() as db:
        db.execute(sa.text("ALTER TABLE gpudrop_jobs RENAME TO away"))
    yield
    with engine.begin() as db:
        db.execute(sa.text("ALTER TABLE away RENAME TO gpudrop_jobs"))
    engine.dispose()


async def test_a_listener_that_freezes_while_it_reserves_does_not_stop_the_others(
    postgres_ledger: str, clock: Moment
) -> None:
    frozen, database = Database(postgres_ledger), Database(postgres_ledger)
    await frozen.open()
    await database.open()
    wake_up = await frozen.call(lambda: stop_in_the_middle(frozen))
    ledger = JobLedger(database, clock)
    async with asyncio.timeout(HANG_S):
        while True:
            try:
                assert await ledger.reserve(job("a"), QuotaLimits(1, None, None)) is None
                break
            except StoreUnavailable:
                continue
    assert await ledger.open_jobs() == {"fast": 1}
    await frozen.call(wake_up)
    await frozen.close()
    await database.close()


def stop_in_the_middle(database: Database) -> Callable[[], None]:
    """Returns what goes on, to find that the server has given it up."""
    opened = database.begin()
    db = opened.__enter__()
    assert UsageCounter(database, db).reserve(job("frozen"), QuotaLimits(1, None, None), NOON) is None

    def wake_up() -> None:
        with pytest.raises(DBAPIError):
            opened.__exit__(None, None, None)

    return wake_up


async def test_costs_are_summed_up_by_whatever_is_asked(jobs: JobLedger, database: Database, clock: Moment) -> None:
    for number, (trigger, endpoint, usd) in enumerate([("songs", "fast", 0.5), ("talks", "slow", 0.25)] * 2):
        clock.now = NOON + number // 2 * DAY
        await jobs.reserve(job(f"{number}", trigger=trigger, endpoint=endpoint), ANYTHING)
        await jobs.ended(f"{number}", outcome="done", execution_ms=1500, usd=usd)
    await jobs.reserve(job("open", trigger="talks"), ANYTHING)
    costs = CostLedger(database)
    by_day = await costs.costs("day", days=30, now=clock.now)
    assert [(c.name, c.jobs, c.seconds, c.usd) for c in by_day] == [
        ("2024-10-04", 2, 3.0, 0.75),
        ("2024-10-05", 2, 3.0, 0.75),
    ]
    assert [c.name for c in await costs.costs("day", days=1, now=clock.now)] == ["2024-10-05"]
    by_trigger = await costs.costs("trigger", days=30, now=clock.now)
    assert [(c.name, c.usd, c.key) for c in by_trigger] == [("songs", 1.0, ""), ("talks", 0.5, "")]
    assert [c.name for c in await costs.costs("endpoint", days=30, now=clock.now)] == ["fast", "slow"]
    assert [(c.name, c.jobs) for c in await costs.costs("operation", days=30, now=clock.now)] == [("transcribe", 4)]
    by_run = await costs.costs("run", days=30, now=clock.now)
    assert [(c.name, c.key) for c in by_run[:2]] == [("run-0", "0.mp3"), ("run-2", "2.mp3")]
    today = await costs.today(clock.now)
    assert today.triggers == {"songs": Spending(0.5, 0.0), "talks": Spending(0.25, 1.0)}
    assert (today.open_jobs, today.all) == (1, Spending(0.75, 1.0))


async def test_what_was_done_last_comes_oldest_first(jobs: JobLedger, clock: Moment) -> None:
    for number in range(6):
        clock.now += 1
        await jobs.reserve(job(f"{number}"), ANYTHING)
        await jobs.ended(f"{number}", outcome="done" if number != 4 else "media_unreadable")
    assert [row.entry for row in await jobs.done_lately(3)] == ["2", "3", "5"]


async def test_old_jobs_are_forgotten_and_their_money_with_them(jobs: JobLedger, clock: Moment) -> None:
    await jobs.reserve(job("old", intended=NOON), ANYTHING)
    await jobs.reserve(job("left open", intended=NOON), ANYTHING)
    await jobs.ended("old", outcome="done", usd=1.0)
    clock.now += DAY
    await jobs.reserve(job("new", intended=clock.now), ANYTHING)
    await jobs.forget(clock.now)
    assert await jobs.of_attempt("run-old-j0", 1) == []
    assert [row.entry for row in await jobs.open_rows()] == ["new"]
