"""Callbacks: posted once they are due, told of in the final sidecar, and given up when nobody will ever hear them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from structlog.testing import capture_logs

from listener.defects import DEFECT
from listener.ledger.callbacks import CallbackLedger, CallbackRow
from listener.ledger.database import Database
from listener.run_request import RunRequest
from listener.runs.callbacks import CallbackClient, CallbackOutcome, CallbackSettings
from listener.runs.finalizer import RunSummary
from listener.runs.manifests import ResolvedManifest
from listener.runs.outbox import CallbackNotes, Outbox
from manifests.errors import StoreUnavailable
from manifests.sidecars import MAX_BYTES
from support.receiver import PAGE, Answer, Receiver
from support.runs import BUCKET, NOW, RunBench

ASKED = ResolvedManifest("transcribe", {"operation": "transcribe"}, None)
HERE = frozenset({"127.0.0.1"})


@pytest.fixture
async def run(bench: RunBench) -> RunRequest:
    """One that is done."""
    run = await bench.drop("in/talk", {"audio": "a.mp3"})
    await bench.parts.finalizer.done(run, ASKED, RunSummary("done", (), {}, {}))
    return run


async def delivered(bench: RunBench, run: RunRequest, url: str, **settings: Any) -> CallbackRow:
    """What became of the run's callback once its sidecar tells of it."""
    notes = CallbackNotes(bench.store, bench.runs)
    outbox = Outbox(
        bench.callbacks, notes, CallbackSettings(private_hosts=HERE, **settings), member="m1",
        clock=bench.parts.clock, rng=random.Random(1),
    )  # fmt: skip
    await outbox.add(run.run_id, url, json.dumps({"run_id": run.run_id}).encode())
    return await noted(bench, run, outbox)


async def noted(bench: RunBench, run: RunRequest, outbox: Outbox) -> CallbackRow:
    row: list[CallbackRow] = []

    async def over() -> bool:
        found = (await bench.callbacks.of([run.run_id]))[run.run_id]
        row[:] = [found]
        return found.attempts > 0 and found.holder == "" and (found.noted == found.state)

    working = asyncio.ensure_future(outbox.run())
    try:
        await bench.eventually(over)
    finally:
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
    return row[0]


@pytest.mark.parametrize(
    ("answer", "state", "error"),
    [
        (Answer(200), "delivered", ""),
        (Answer(204, b""), "delivered", ""),
        (Answer(301), "refused", "leads elsewhere"),
        (Answer(410), "refused", "will not take"),
        (PAGE, "waiting", "HTML page"),
        (Answer(503, headers={"Retry-After": "7"}), "waiting", "answered 503"),
        (Answer(fault="reset"), "waiting", "Not delivered"),
    ],
)
async def test_the_sidecar_tells_what_the_receiver_made_of_it(
    bench: RunBench, run: RunRequest, receiver: Receiver, answer: Answer, state: str, error: str
) -> None:
    receiver.otherwise = answer
    row = await delivered(bench, run, receiver.url)
    assert (row.state, row.attempts) == (state, 1)
    assert error in row.last_error
    told = (await bench.done(run))["callback"]
    assert (told["state"], told["attempts"]) == (state, 1)
    assert [heard.document["run_id"] for heard in receiver.heard] == [run.run_id]
    if state == "waiting":
        assert row.due > bench.moment()
    if answer.headers.get("Retry-After"):
        assert row.due >= bench.moment() + 7.0


async def test_what_the_sidecar_tells_already_is_not_written_again(
    bench: RunBench, run: RunRequest, receiver: Receiver
) -> None:
    receiver.otherwise = Answer(503)
    await delivered(bench, run, receiver.url)
    told = await bench.done(run)
    bench.moment.now += 700.0
    working = asyncio.ensure_future(bench.parts.outbox.run())

    async def restart() -> bool:
        row = (await bench.callbacks.of([run.run_id]))[run.run_id]
        return row.attempts >= 2 and row.holder == ""

    await bench.eventually(restart)
    working.cancel()
    await asyncio.wait({working})
    assert await bench.done(run) == told


async def test_attempts_end_with_their_number(bench: RunBench, run: RunRequest, receiver: Receiver) -> None:
    receiver.otherwise = Answer(503)
    row = await delivered(bench, run, receiver.url, max_attempts=1)
    assert (row.state, (await bench.done(run))["callback"]["state"]) == ("given_up", "given_up")


async def test_attempts_end_with_their_time(bench: RunBench, run: RunRequest, receiver: Receiver) -> None:
    receiver.otherwise = Answer(503)
    row = await delivered(bench, run, receiver.url, keep_trying_s=0.0)
    assert row.state == "given_up"


@pytest.mark.parametrize("url", ["nothing like an address", "http://10.0.0.1/heard"])
async def test_what_may_not_be_called_is_not(bench: RunBench, run: RunRequest, url: str) -> None:
    row = await delivered(bench, run, url)
    assert (row.state, row.hint != "") == ("refused", True)


async def test_a_receiver_that_is_not_there_is_called_again(bench: RunBench, run: RunRequest) -> None:
    row = await delivered(bench, run, "http://127.0.0.1:1/heard")
    assert (row.state, row.host) == ("waiting", "127.0.0.1:1")


@pytest.mark.parametrize("headers", [b"Content-Length: 100", b"Content-Encoding: gzip\r\nContent-Length: 2"])
async def test_an_answer_that_breaks_off_or_cannot_be_unpacked_has_been_heard(headers: bytes) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(break_off, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        client = CallbackClient(CallbackSettings(private_hosts=HERE))
        outcome = await client.post(f"http://127.0.0.1:{port}/", b"{}", run_id="r", attempt=1)
    assert outcome == CallbackOutcome("delivered")


async def test_the_same_run_calls_back_once(bench: RunBench, run: RunRequest, receiver: Receiver) -> None:
    await delivered(bench, run, receiver.url)
    await bench.parts.outbox.add(run.run_id, receiver.url, b"{}")
    assert await bench.callbacks.counts() == {"delivered": 1}


async def test_a_sidecar_that_cannot_be_written_now_is_written_later(
    bench: RunBench, run: RunRequest, receiver: Receiver
) -> None:
    bench.store.problem("replace", run.sidecar("done"), StoreUnavailable("It is away."))
    notes = CallbackNotes(bench.store, bench.runs)
    outbox = Outbox(
        bench.callbacks, notes, CallbackSettings(private_hosts=HERE), member="m1", clock=bench.parts.clock,
        rng=random.Random(1),
    )  # fmt: skip
    await outbox.add(run.run_id, receiver.url, b"{}")
    working = asyncio.ensure_future(outbox.run())

    async def put_off() -> bool:
        row = (await bench.callbacks.of([run.run_id]))[run.run_id]
        return row.state == "delivered" and row.holder == "" and row.due > NOW

    await bench.eventually(put_off)
    working.cancel()
    await asyncio.wait({working})
    assert "callback" not in await bench.done(run)
    bench.moment.now += 60.0
    assert (await noted(bench, run, outbox)).state == "delivered"
    assert (await bench.done(run))["callback"]["state"] == "delivered"
    assert len(receiver.heard) == 1


async def test_a_sidecar_that_can_never_be_written_is_left_in_the_end(
    bench: RunBench, run: RunRequest, receiver: Receiver
) -> None:
    bench.store.problem("replace", run.sidecar("done"), StoreUnavailable("It is away."), times=99)
    await bench.parts.outbox.add(run.run_id, receiver.url, b"{}")
    bench.moment.now += 8 * 86400.0
    row = await noted(bench, run, bench.parts.outbox)
    assert (row.state, row.noted) == ("delivered", "delivered")
    assert "callback" not in await bench.done(run)


def row_of(run: RunRequest) -> CallbackRow:
    return CallbackRow(run.run_id, "http://h/", "h:80", "delivered", NOW, NOW, due=NOW, until=NOW)


Spoil = Callable[[RunBench, RunRequest], Any]


async def another_run(bench: RunBench, run: RunRequest) -> None:
    bench.moment.now += 1.0
    await bench.drop("in/talk", {"audio": "b.mp3"})
    await bench.put(run.sidecar("done"), await bench.done(run))


async def removed(bench: RunBench, run: RunRequest) -> None:
    await bench.store.delete(BUCKET, run.sidecar("done"))


async def nonsense(bench: RunBench, run: RunRequest) -> None:
    await bench.put(run.sidecar("done"), b"nothing of ours")


async def too_large(bench: RunBench, run: RunRequest) -> None:
    await bench.put(run.sidecar("done"), b" " * (MAX_BYTES["done"] + 1))


async def always_another(bench: RunBench, run: RunRequest) -> None:
    key = run.sidecar("done")

    async def restart() -> None:
        await bench.put(key, await bench.done(run))
        bench.store.before["replace", key] = restart

    bench.store.before["replace", key] = restart


@pytest.mark.parametrize("spoil", [another_run, removed, nonsense, too_large, always_another])
async def test_only_the_runs_own_sidecar_tells_of_its_callback(bench: RunBench, run: RunRequest, spoil: Spoil) -> None:
    await spoil(bench, run)
    assert not await CallbackNotes(bench.store, bench.runs).write(row_of(run))
    assert b'"callback"' not in (await bench.get(run.sidecar("done")) or b"")


async def test_of_a_run_that_is_forgotten_nothing_is_told(bench: RunBench, run: RunRequest) -> None:
    await bench.runs.forget(NOW + 1.0)
    assert not await CallbackNotes(bench.store, bench.runs).write(row_of(run))


async def test_an_error_sidecar_tells_as_well(bench: RunBench, run: RunRequest) -> None:
    await bench.store.delete(BUCKET, run.sidecar("done"))
    await bench.put(run.sidecar("error"), {"run_id": run.run_id, "key": run.key, "code": "x"})
    assert await CallbackNotes(bench.store, bench.runs).write(row_of(run))
    assert (await bench.failed(run))["callback"]["state"] == "delivered"


async def test_a_ledger_that_is_away_ends_nothing(
    bench: RunBench, closed_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("listener.runs.outbox.POLL_S", 0.01)
    ledger, notes = CallbackLedger(closed_database), CallbackNotes(bench.store, bench.runs)
    outbox = Outbox(ledger, notes, CallbackSettings(), member="m1", clock=bench.parts.clock, rng=random.Random(1))
    with capture_logs() as logs:
        working = asyncio.ensure_future(outbox.run())
        with pytest.raises(StoreUnavailable):
            await outbox.add("r", "http://h/", b"{}")
        await bench.until(lambda: [entry["event"] for entry in logs].count("callbacks_not_read") > 1)
    assert not working.done()
    working.cancel()
    await asyncio.wait({working})


class Troubled(CallbackLedger):
    """Fails once at what `at` names, with `error`."""

    def __init__(self, database: Database, at: str, error: Exception) -> None:
        super().__init__(database)
        self._at = at
        self._error: Exception | None = error

    def _met(self, call: str) -> None:
        if call == self._at and (error := self._error):
            self._error = None
            raise error

    async def record(self, row: CallbackRow) -> None:
        self._met("record")
        await super().record(row)

    async def noted(self, row: CallbackRow, state: str) -> None:
        self._met("noted")
        await super().noted(row, state)


@pytest.mark.parametrize(
    ("at", "error"),
    [
        ("record", StoreUnavailable("It is away.")),
        ("noted", StoreUnavailable("It is away.")),
        ("noted", KeyError("a defect")),
    ],
)
async def test_what_cannot_be_recorded_is_not_posted_again(
    bench: RunBench, run: RunRequest, receiver: Receiver, at: str, error: Exception
) -> None:
    ledger = Troubled(bench.database, at, error)
    notes = CallbackNotes(bench.store, bench.runs)
    settings = CallbackSettings(private_hosts=HERE)
    outbox = Outbox(ledger, notes, settings, member="m1", clock=bench.parts.clock, rng=random.Random(1))
    await outbox.add(run.run_id, receiver.url, b"{}")
    working = asyncio.ensure_future(outbox.run())

    async def told() -> bool:
        return "callback" in await bench.done(run)

    await bench.eventually(told)
    # Its lease ends; whoever has it then finds that it was heard.
    bench.moment.now += 120.0
    working.cancel()
    await asyncio.wait({working})
    assert (await noted(bench, run, outbox)).state == "delivered"
    assert len(receiver.heard) == 1


async def test_a_defect_is_an_attempt_that_failed(bench: RunBench, run: RunRequest, receiver: Receiver) -> None:
    nonsense: Any = None
    notes = CallbackNotes(bench.store, bench.runs)
    settings = CallbackSettings(private_hosts=nonsense)
    outbox = Outbox(bench.callbacks, notes, settings, member="m1", clock=bench.parts.clock, rng=random.Random(1))
    await outbox.add(run.run_id, receiver.url, b"{}")
    row = await noted(bench, run, outbox)
    assert (row.state, row.attempts, row.last_error) == ("waiting", 1, DEFECT.message)
