"""`gpudrop callback`: has a run's callback sent again by the running listener, and says what became of it."""

from __future__ import annotations

import asyncio
import time

from listener.commands.ledger import callback_line, ledger_database, print_line
from listener.configuration.config import Config
from listener.ledger.callbacks import CallbackLedger, CallbackRow
from listener.ledger.run_rows import RunRow
from listener.ledger.runs import RunLedger

_LOOK_S = 0.25
_TAKEN_S = 10.0
"""How long a listener may take to come to it, beyond the time of an attempt."""


async def send_callback(config: Config, what: str) -> int:
    """The newest run that matches; 0 once its receiver has heard."""
    async with ledger_database(config) as database:
        runs, callbacks = RunLedger(database), CallbackLedger(database)
        rows = await runs.matching(what)
        if not rows:
            print_line(f"No run matches {what!r}; `gpudrop status` lists them.")
            return 1
        run = rows[0]
        former = (await callbacks.of([run.run_id])).get(run.run_id)
        if former is None:
            print_line(_none(run))
            return 1
        now = time.time()
        await callbacks.resend(run.run_id, now=now, until=now + config.callbacks.keep_trying)
        print_line(f"{run.key}: the callback to {former.host} is sent again.")
        row = await _outcome(callbacks, former, config.callbacks.timeout + _TAKEN_S)
        print_line(callback_line(row) if row else "No listener has taken it up yet; it will when one runs.")
    return 0 if row and row.state == "delivered" else 1


async def _outcome(callbacks: CallbackLedger, former: CallbackRow, within_s: float) -> CallbackRow | None:
    """How it stands after the next attempt; None when there was none in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        row = (await callbacks.of([former.run_id])).get(former.run_id)
        if row and row.attempts > former.attempts and not row.holder:
            return row
        await asyncio.sleep(_LOOK_S)
    return None


def _none(run: RunRow) -> str:
    if not run.ended:
        return f"{run.run_id} ({run.key}) has not ended yet: its callback is sent when it does."
    return f"{run.run_id} ({run.key}) has no callback: it names no callback_url, or ended before callbacks were kept."
