"""Callbacks wait in the ledger and reach their receivers, on both databases, whoever is deaf and whoever is killed."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from listener.defects import DEFECT
from listener.ledger.callbacks import CLOCK_STEP_S, CallbackLedger, CallbackRow
from listener.ledger.database import Database
from listener.ledger.runs import RunLedger
from listener.run_request import RunRequest, run_row
from listener.runs.callbacks import CallbackSettings
from listener.runs.outbox import PER_HOST, CallbackNotes, Outbox
from listener.stores.base import Store
from listener.stores.folder import FolderStore
from listener.stores.s3.store import S3Store
from listener.triggers.triggers import Trigger
from support.deadlines import HANG_S
from support.receiver import PAGE, Answer, Receiver, listening
from support.stores import new_bucket, servers, settings_for, start_minio

SETTINGS = CallbackSettings(private_hosts=frozenset({"127.0.0.1"}), timeout_s=2.0)
NOW = 1_700_000_000.0


@pytest.fixture
def ledger(database: Database) -> CallbackLedger:
    return CallbackLedger(database)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    await database.open()
    yield database
    await database.close()


def row_of(run_id: str, host: str = "a:80", **fields: Any) -> CallbackRow:
    row = CallbackRow(run_id, f"http://{host}/", host, "waiting", NOW, NOW, due=NOW, until=NOW + 86400.0)
    return replace(row, **fields)


async def claimed(ledger: CallbackLedger, holder: str = "m1:1", now: float = NOW, **limits: Any) -> list[str]:
    asked = {"lease_s": 30.0, "limit": 100, "per_host": 100, "busy": {}, **limits}
    return [each.row.run_id for each in await ledger.claim(holder, now=now, **asked)]


async def test_a_run_has_one_callback_with_its_own_bytes(ledger: CallbackLedger) -> None:
    assert await ledger.add(row_of("r1"), b"\x00 first")
    assert not await ledger.add(row_of("r1"), b"second")
    (callback,) = await ledger.claim("m1:1", now=NOW, lease_s=9.0, limit=5, per_host=5, busy={})
    assert (callback.body, callback.row.attempts, callback.row.holder) == (b"\x00 first", 1, "m1:1")
    assert await claimed(ledger, "m2:1") == []


async def test_a_lease_ends_by_time_and_with_its_holders_next_life(ledger: CallbackLedger) -> None:
    await ledger.add(row_of("r1"), b"1")
    assert await claimed(ledger) == ["r1"]
    assert await claimed(ledger, "m2:1", NOW + 29.0) == []
    assert await claimed(ledger, "m2:1", NOW + 31.0) == ["r1"]
    lost = row_of("r1", holder="m1:1", state="refused")
    await ledger.record(lost)
    assert (await ledger.of(["r1"]))["r1"].state == "waiting"
    await ledger.release("m1")
    assert await claimed(ledger, "m1:2", NOW + 32.0) == []
    await ledger.release("m2")
    assert await claimed(ledger, "m1:2", NOW + 32.0) == ["r1"]


async def test_one_host_never_takes_all_places(ledger: CallbackLedger) -> None:
    for n in range(6):
        await ledger.add(row_of(f"deaf-{n}", "deaf:1", due=NOW - 100 + n), b"1")
    await ledger.add(row_of("good", "good:1"), b"1")
    assert await claimed(ledger, per_host=2, limit=5) == ["deaf-0", "deaf-1", "good"]
    assert await claimed(ledger, per_host=2, busy={"deaf:1": 2, "good:1": 1}) == []
    assert await claimed(ledger, per_host=3, busy={"deaf:1": 2}) == ["deaf-2"]
    assert len(await claimed(ledger)) == 3


async def test_what_ended_is_noted_once_and_forgotten_in_time(ledger: CallbackLedger) -> None:
    await ledger.add(row_of("r1"), b"1")
    (callback,) = await ledger.claim("m1:1", now=NOW, lease_s=9.0, limit=5, per_host=5, busy={})
    await ledger.record(replace(callback.row, state="delivered", updated=NOW))
    await ledger.release("m1")
    (again,) = await ledger.claim("m1:1", now=NOW, lease_s=9.0, limit=5, per_host=5, busy={})
    assert (again.row.state, again.row.attempts) == ("delivered", 1)
    await ledger.noted(again.row, "delivered")
    assert await claimed(ledger, now=NOW + 1000.0) == []
    assert await ledger.counts() == {"delivered": 1}
    await ledger.forget(NOW)
    assert await ledger.resend("r1", now=NOW + 5.0, until=NOW + 50.0)
    await ledger.forget(NOW + 10.0)
    assert await claimed(ledger, now=NOW + 5.0) == ["r1"]
    assert not await ledger.resend("r2", now=NOW, until=NOW)


async def test_what_is_sent_again_waits_for_no_attempt_before_and_is_noted_anew(ledger: CallbackLedger) -> None:
    await ledger.add(row_of("r1", noted="refused"), b"1")
    (before,) = await ledger.claim("m1:1", now=NOW, lease_s=30.0, limit=5, per_host=5, busy={})
    assert await ledger.resend("r1", now=NOW, until=NOW + 50.0)
    (again,) = await ledger.claim("m1:1", now=NOW, lease_s=30.0, limit=5, per_host=5, busy={})
    await ledger.record(replace(before.row, state="refused"))
    await ledger.noted(before.row, "refused")
    assert again == replace(before, row=replace(before.row, attempts=2, noted="", until=NOW + 50.0))
    assert (await ledger.of(["r1"]))["r1"] == again.row


async def test_a_clock_that_was_set_back_holds_nothing_up(ledger: CallbackLedger) -> None:
    await ledger.add(row_of("r1", due=NOW + CLOCK_STEP_S + 1.0, lease_until=NOW + CLOCK_STEP_S + 1.0), b"1")
    assert await claimed(ledger) == ["r1"]


async def test_those_that_are_over_are_not_looked_through(ledger_url: str) -> None:
    async with opened(ledger_url) as database:
        asked: list[tuple[str, Any]] = []

        def explain() -> str:
            query, values = asked[0]
            with database.begin() as db:
                if db.dialect.name == "sqlite":
                    return str(db.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values).all())
                db.exec_driver_sql("SET LOCAL enable_seqscan = off")
                return str(db.exec_driver_sql(f"EXPLAIN {query}", values).all())

        def listen() -> None:
            with database.begin() as db:
                event.listen(db.engine, "before_cursor_execute", lambda *args: asked.append((args[2], args[3])))

        await database.call(listen)
        assert await claimed(CallbackLedger(database)) == []
        plan = await database.call(explain)
    assert "gpudrop_callbacks_open" in plan
    assert not re.search("Seq Scan on gpudrop_callbacks|SCAN gpudrop_callbacks(?! USING)", plan)


async def test_two_listeners_never_hold_the_same(postgres_ledger: str) -> None:
    async with opened(postgres_ledger) as one, opened(postgres_ledger) as other:
        ledgers = [CallbackLedger(one), CallbackLedger(other)]
        for n in range(60):
            await ledgers[0].add(row_of(f"r{n}"), b"1")
        found: list[str] = []
        for _ in range(10):
            takes = (claimed(each, f"m{i}:1", limit=5) for i, each in enumerate(ledgers))
            found += [run_id for taken in await asyncio.gather(*takes) for run_id in taken]
        assert (len(found), len(set(found))) == (60, 60)


class Listener:
    """An outbox that runs."""

    def __init__(self, database: Database, store: Store, member: str, settings: CallbackSettings) -> None:
        self.ledger = CallbackLedger(database)
        notes = CallbackNotes(store, RunLedger(database))
        rng = random.Random(1)
        self.outbox = Outbox(self.ledger, notes, settings, member=member, clock=time.time, rng=rng)
        self.task = asyncio.create_task(self.outbox.run())

    @classmethod
    @asynccontextmanager
    async def of(
        cls, database: Database, store: Store, member: str = "m1", settings: CallbackSettings = SETTINGS
    ) -> AsyncIterator[Listener]:
        listener = cls(database, store, member, settings)
        yield listener
        listener.task.cancel()
        await asyncio.wait([listener.task])

    async def until(self, run_ids: list[str], state: str = "delivered") -> dict[str, CallbackRow]:
        async with asyncio.timeout(HANG_S):
            while True:
                rows = await self.ledger.of(run_ids)
                if all(run_id in rows and rows[run_id].state == state for run_id in run_ids):
                    return rows
                assert not self.task.done(), self.task.result()
                await asyncio.sleep(0.1)


@asynccontextmanager
async def running(
    url: str, folder: Path, *members: str, settings: CallbackSettings = SETTINGS
) -> AsyncIterator[list[Listener]]:
    async with AsyncExitStack() as stack:
        listeners: list[Listener] = []
        for member in members:
            database = await stack.enter_async_context(opened(url))
            mine = Listener.of(database, FolderStore(folder, "drop"), member, settings)
            listeners.append(await stack.enter_async_context(mine))
        yield listeners


async def test_a_deaf_receiver_holds_nobody_up(ledger_url: str, tmp_path: Path, receiver: Receiver) -> None:
    with ExitStack() as stack:
        deaf = stack.enter_context(listening())
        deaf.otherwise = Answer(fault="hang")
        patient = replace(SETTINGS, timeout_s=30.0)
        async with running(ledger_url, tmp_path, "m1", settings=patient) as (listener,):
            for n in range(60):
                await listener.outbox.add(f"deaf-{n}", deaf.url, b"{}")
            for n in range(20):
                await listener.outbox.add(f"good-{n}", receiver.url, b"{}")
            await listener.until([f"good-{n}" for n in range(20)])
            assert len(deaf.heard) <= PER_HOST
            assert len(receiver.heard) == 20
            deaf.otherwise = Answer()
            deaf.let_go.set()
            await listener.until([f"deaf-{n}" for n in range(60)])


async def test_faults_of_receivers_are_outlived_and_told(ledger_url: str, tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers += [Answer(fault="reset"), PAGE, Answer(500), Answer(409, b"is running already"), Answer(204, b"")]
    async with running(ledger_url, tmp_path, "m1") as (listener,):
        await listener.outbox.add("r1", receiver.url, b'{"a": 1}')
        row = (await listener.until(["r1"]))["r1"]
    assert (row.attempts, row.last_error, row.hint) == (5, "", "")
    assert receiver.bodies() == [b'{"a": 1}'] * 5
    assert [each.headers["X-Gpudrop-Attempt"] for each in receiver.heard] == ["1", "2", "3", "4", "5"]
    assert Counter(each.headers["X-Gpudrop-Callback-Id"] for each in receiver.heard) == {"callback-r1": 5}


async def test_retry_after_is_heeded(ledger_url: str, tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers += [Answer(429, headers={"Retry-After": "2000"})]
    async with running(ledger_url, tmp_path, "m1") as (listener,):
        began = time.time()
        await listener.outbox.add("r1", receiver.url, b"{}")
        async with asyncio.timeout(HANG_S):
            while not (row := (await listener.ledger.of(["r1"]))["r1"]).last_error:
                await asyncio.sleep(0.05)
    assert row.state == "waiting"
    assert 2000 <= row.due - began < 2000 + HANG_S


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("http://127.0.0.1:1/", "No connection"), ("https://HOST/", "does not speak TLS"),
        ("http://no-such-name.invalid/", "unknown"),
    ],
)  # fmt: skip
async def test_what_keeps_a_callback_from_going_out_is_said(
    ledger_url: str, tmp_path: Path, receiver: Receiver, address: str, error: str
) -> None:
    async with running(ledger_url, tmp_path, "m1", settings=replace(SETTINGS, max_attempts=1)) as (listener,):
        await listener.outbox.add("r1", address.replace("HOST", receiver.host), b"{}")
        row = (await listener.until(["r1"], "given_up"))["r1"]
    assert error.lower() in row.last_error.lower()
    assert row.hint


@pytest.mark.parametrize("address", ["http://h:99999/", "http://[::1/", "http://10.0.0.5:5678/x", "http://[fec0::1]/"])
async def test_an_address_that_may_not_be_called(ledger_url: str, tmp_path: Path, address: str) -> None:
    async with running(ledger_url, tmp_path, "m1") as (listener,):
        await listener.outbox.add("r1", address, b"{}")
        row = (await listener.until(["r1"], "refused"))["r1"]
    assert ("10.0.0.5" in address) == ('callbacks.private_hosts: ["10.0.0.5:5678"]' in row.hint)


async def test_a_defect_is_a_failed_attempt(ledger_url: str, tmp_path: Path, receiver: Receiver) -> None:
    async with running(ledger_url, tmp_path, "m1", settings=replace(SETTINGS, max_attempts=2)) as (listener,):
        await listener.outbox.add("no\nheader", receiver.url, b"{}")
        row = (await listener.until(["no\nheader"], "given_up"))["no\nheader"]
    assert (row.attempts, row.last_error, receiver.heard) == (2, DEFECT.message, [])


async def test_several_listeners_post_each_once(postgres_ledger: str, tmp_path: Path, receiver: Receiver) -> None:
    run_ids = [f"r{n}" for n in range(80)]
    async with running(postgres_ledger, tmp_path, "m1", "m2", "m3") as listeners:
        for n, run_id in enumerate(run_ids):
            await listeners[n % 3].outbox.add(run_id, receiver.url, run_id.encode())
        await listeners[0].until(run_ids)
    assert Counter(receiver.bodies()) == Counter(run_id.encode() for run_id in run_ids)


REQUEST = RunRequest("r1", "drop", "a.job.json", "v1", Trigger("manifests", manifest=None), NOW, NOW, "folder")
DONE = b'{"code": 200, "run_id": "r1", "metadata": {}}'


async def noted(url: str, folder: Path, receiver: Receiver, *newer: RunRequest, lies_there: bytes = DONE) -> Any:
    """What lies in the done sidecar's place once the callback of r1 has been delivered and noted."""
    store = FolderStore(folder, "drop")
    async with running(url, folder, "m1") as (listener,), opened(url) as database:
        for n, request in enumerate((REQUEST, *newer)):
            await RunLedger(database).add(run_row(request, NOW + n))
        await store.put("drop", "a.done.json", lies_there, content_type="")
        await listener.outbox.add("r1", receiver.url, DONE)
        async with asyncio.timeout(HANG_S):
            while (await listener.ledger.of(["r1"]))["r1"].noted != "delivered":
                await asyncio.sleep(0.05)
    assert receiver.bodies() == [DONE]
    return json.loads((folder / "a.done.json").read_bytes())


async def test_the_runs_own_sidecar_tells_of_it(ledger_url: str, tmp_path: Path, receiver: Receiver) -> None:
    found = await noted(ledger_url, tmp_path, receiver)
    assert found == {
        "code": 200, "run_id": "r1", "metadata": {},
        "callback": {"state": "delivered", "attempts": 1, "last_error": "", "hint": ""},
    }  # fmt: skip


async def test_no_other_runs_sidecar_does(ledger_url: str, tmp_path: Path, receiver: Receiver) -> None:
    newer = replace(REQUEST, run_id="r2", version="v2")
    assert await noted(ledger_url, tmp_path, receiver, newer) == json.loads(DONE)


async def test_a_sidecar_that_is_another_runs_stays(ledger_url: str, tmp_path: Path, receiver: Receiver) -> None:
    assert await noted(ledger_url, tmp_path, receiver, lies_there=b'{"run_id": "r2"}') == {"run_id": "r2"}


@pytest.mark.minio
async def test_a_store_that_is_away_is_told_when_it_is_back(tmp_path: Path, receiver: Receiver) -> None:
    server = start_minio("minio", tmp_path / "minio")
    try:
        new_bucket(server, "drop")
        store = S3Store(replace(settings_for(server, "drop"), timeout_s=2.0))
        await store.put("drop", "a.done.json", DONE, content_type="")
        servers.stop(server)
        async with opened(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as database:
            await RunLedger(database).add(run_row(REQUEST, NOW))
            async with Listener.of(database, store) as listener:
                await listener.outbox.add("r1", receiver.url, DONE)
                row = (await listener.until(["r1"]))["r1"]
                assert row.noted == ""
                server = servers.restart(server)
                async with asyncio.timeout(HANG_S):
                    while (await listener.ledger.of(["r1"]))["r1"].noted != "delivered":
                        await asyncio.sleep(0.2)
        body = await store.read("drop", "a.done.json", max_bytes=10_000)
        assert json.loads(body or b"")["callback"]["state"] == "delivered"
        assert len(receiver.heard) == 1
        await store.close()
    finally:
        servers.stop(server)
