"""Commands beside a running listener: they read the ledger, and record requests to the listener in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from rich.table import Table
from rich.text import Text

from listener.cli.output import Terminal
from listener.config.config import Config
from listener.config.state import state_of
from listener.ledger.callbacks import CallbackLedger, CallbackRow
from listener.ledger.database import Database
from listener.ledger.inbox import InboxLedger
from listener.ledger.input_waits import InputWaitLedger
from listener.ledger.redrives import RedriveLedger
from listener.ledger.run_rows import RunRow
from listener.ledger.runs import RunLedger
from listener.ledger.sources import SourceLedger, SourceRow

_COLOURS = {"done": "green", "failed": "red", "cancelled": "yellow", "superseded": "dim"}


@asynccontextmanager
async def ledger_database(config: Config) -> AsyncGenerator[Database]:
    database = Database(state_of(config).ledger_url)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def _ledger(config: Config) -> AsyncGenerator[RunLedger]:
    async with ledger_database(config) as database:
        yield RunLedger(database)


async def show_status(config: Config, what: str, limit: int) -> None:
    async with ledger_database(config) as database:
        runs = RunLedger(database)
        rows = (await runs.matching(what) if what else await runs.recent(limit))[:limit]
        sources = [] if what else await SourceLedger(database).all()
        callbacks = CallbackLedger(database)
        by_run = await callbacks.of([row.run_id for row in rows]) if what else {}
        undelivered = {} if what else await callbacks.counts()
        keys, waiting = await InboxLedger(database, "").waiting(), await runs.waiting()
        lacking = await InputWaitLedger(database).count()
    console = Terminal()
    if sources:
        console.print(_sources_table(sources), "")
    if keys or waiting:
        console.print(f"{keys} keys wait to be looked at, {waiting} runs wait to be started.", "")
    if lacking:
        console.print(f"{lacking} runs wait for their files.", "")
    if text := _undelivered(undelivered):
        console.print(text, "")
    if not rows:
        console.print(f"No run matches {what!r}." if what else "No runs yet.")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("accepted", "state", "operation", "key", "run", "error"):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    for run_id, row in by_run.items():
        print_line(f"{run_id}: {callback_line(row)}")
    for run in rows:
        if run.note and not run.ended:
            print_line(f"{run.key} waits for: {run.note}")


def _undelivered(counts: Mapping[str, int]) -> str:
    """Returns the undelivered callbacks in words; "" when all are delivered."""
    found = {"waiting": "wait to be heard", "refused": "were refused", "given_up": "were given up"}
    told = ", ".join(f"{counts[state]} {words}" for state, words in found.items() if counts.get(state))
    return f"Callbacks: {told}. `gpudrop status KEY` says why." if told else ""


def _sources_table(rows: Sequence[SourceRow]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("source", "since", "state", "events"):
        table.add_column(title, overflow="fold")
    several = len({row.member for row in rows}) > 1
    for row in rows:
        name = f"{row.source} ({row.member})" if several else row.source
        state = Text(row.detail if row.ok else f"{row.detail} {row.hint}".strip(), "green" if row.ok else "red")
        counts = ", ".join(f"{what}: {n}" for what, n in sorted(row.counts.items(), key=lambda item: -item[1]))
        table.add_row(name, _moment(row.since), state, counts)
    return table


def callback_line(row: CallbackRow) -> str:
    """Returns the state of a callback in a sentence or two."""
    times = "1 attempt" if row.attempts == 1 else f"{row.attempts} attempts"
    if row.state == "delivered":
        return f"callback delivered after {times}."
    said = {"refused": "refused", "given_up": "given up", "waiting": "not heard yet"}[row.state]
    return f"callback {said} after {times}. {row.last_error} {row.hint}".rstrip()


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _cells(row: RunRow) -> tuple[str | Text, ...]:
    state = Text(row.state, _COLOURS.get(row.state, "cyan"))
    if row.cancel and not row.ended:
        state.append(f" ({row.cancel})", "")
    return _moment(row.accepted), state, row.operation, f"{row.bucket}/{row.key}", row.run_id, row.error_code


async def cancel_runs(config: Config, what: str) -> int:
    async with _ledger(config) as runs:
        found = [row for row in await runs.matching(what) if not row.ended]
        for row in found:
            await runs.request_end(row.run_id, "cancelled")
            print_line(f"Ending {row.run_id} ({row.key}).")
    if not found:
        print_line(f"No unfinished run matches {what!r}; `gpudrop status` lists them.")
    return 0 if found else 1


async def redrive_run(config: Config, what: str) -> int:
    """Redrives the newest run that matches; returns 1 where none can be."""
    async with ledger_database(config) as database:
        rows = await RunLedger(database).matching(what)
        if not rows:
            print_line(f"No run matches {what!r}; `gpudrop status` lists them.")
            return 1
        if not rows[0].ended:
            print_line(f"{rows[0].run_id} ({rows[0].key}) has not ended yet; cancel it first.")
            return 1
        await RedriveLedger(database).request(rows[0].run_id)
        print_line(f"{rows[0].key} will run again.")
    return 0


def print_line(text: str) -> None:
    Terminal().print(text, soft_wrap=True)


_POLL_S = 0.25
_TAKEN_S = 10.0
"""Seconds that a listener may take to begin the attempt, beyond the attempt's own time."""


async def send_callback(config: Config, what: str) -> int:
    """Sends the callback of the newest run that matches again; returns 0 once it is delivered."""
    async with ledger_database(config) as database:
        runs, callbacks = RunLedger(database), CallbackLedger(database)
        rows = await runs.matching(what)
        if not rows:
            print_line(f"No run matches {what!r}; `gpudrop status` lists them.")
            return 1
        run = rows[0]
        before = (await callbacks.of([run.run_id])).get(run.run_id)
        if before is None:
            print_line(_none(run))
            return 1
        now = time.time()
        await callbacks.resend(run.run_id, now=now, until=now + config.callbacks.keep_trying)
        print_line(f"{run.key}: the callback to {before.host} is sent again.")
        row = await _outcome(callbacks, before, config.callbacks.timeout + _TAKEN_S)
        print_line(callback_line(row) if row else "No listener has taken it up yet; it will when one runs.")
    return 0 if row and row.state == "delivered" else 1


async def _outcome(callbacks: CallbackLedger, before: CallbackRow, within_s: float) -> CallbackRow | None:
    """Returns the callback's row after the next attempt; None without one within `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        row = (await callbacks.of([before.run_id])).get(before.run_id)
        if row and row.attempts > before.attempts and not row.holder:
            return row
        await asyncio.sleep(_POLL_S)
    return None


def _none(run: RunRow) -> str:
    if not run.ended:
        return f"{run.run_id} ({run.key}) has not ended yet: its callback is sent when it does."
    return f"{run.run_id} ({run.key}) has no callback: it names no callback_url, or ended before callbacks were kept."
