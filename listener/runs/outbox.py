"""The outbox of callbacks: each is recorded when its run ends, delivered by any listener, and noted in the sidecar."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import structlog
from pydantic import TypeAdapter

from gpu_dispatch.net.retries import CALLBACK_RECORD, Retries
from listener.defects import DEFECT
from listener.ledger.callbacks import CallbackLedger, CallbackRow, ClaimedCallback
from listener.ledger.runs import RunLedger
from listener.run_request import RunRequest
from listener.runs.callbacks import CallbackClient, CallbackOutcome, CallbackSettings, callback_state_after
from listener.stores.base import Store, StoredObject
from manifests.documents import CONTENT_TYPE
from manifests.errors import GpuDropError, InputTooLarge, StoreUnavailable
from manifests.hosts import parse_web_address
from manifests.names import Sidecar
from manifests.sidecars import MAX_BYTES, CallbackNote, with_callback

_TRIES = 3
_KINDS: tuple[Sidecar, ...] = ("done", "error")
_REQUEST: TypeAdapter[RunRequest] = TypeAdapter(RunRequest)


class CallbackNotes:
    """Writes the state of callbacks into the sidecars of their runs."""

    def __init__(self, store: Store, runs: RunLedger) -> None:
        self._store = store
        self._runs = runs

    async def write(self, row: CallbackRow) -> bool:
        """Writes the callback's state into the sidecar of `row`'s run; returns whether it is there now. It is not once
        a newer run of the drop has begun, or somebody has removed the sidecar. Raises what the store raises."""
        found = await self._runs.find(row.run_id)
        if found is None:
            return False
        newest = (await self._runs.of(found.bucket, found.key))[0]
        if newest.run_id != row.run_id:
            return False
        run = _REQUEST.validate_python(found.request)
        for kind in _KINDS:
            if await self._rewrite(run, kind, row):
                return True
        return False

    async def _rewrite(self, run: RunRequest, kind: Sidecar, row: CallbackRow) -> bool:
        """Replaces only the version that was read: what a newer run writes there meanwhile stays."""
        note = CallbackNote(row.state, row.attempts, row.last_error, row.hint)
        for _ in range(_TRIES):
            found = await self._found(run, kind)
            data = await asyncio.to_thread(with_callback, found.content, run.run_id, note) if found else None
            if found is None or data is None:
                return False
            if await self._store.replace(
                run.bucket,
                run.sidecar(kind),
                data,
                content_type=CONTENT_TYPE,
                expected=found.meta.etag,
                run_id=run.run_id,
            ):
                return True
        return False

    async def _found(self, run: RunRequest, kind: Sidecar) -> StoredObject | None:
        try:
            return await self._store.get(run.bucket, run.sidecar(kind), max_bytes=MAX_BYTES[kind])
        except InputTooLarge:
            return None


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.callbacks")

AT_ONCE = 32
PER_HOST = 4
"""Callbacks to one host at once: a receiver that hangs holds up no more than these."""
POLL_S = 2.0
_NOTE_S = 10.0
_NOTE_WITHIN_S = 7 * 86400.0
"""Seconds after the run's end; a sidecar that could not be written by then is left as it is."""
_LEASE_S = 30.0
"""Seconds of a lease beyond the time of an attempt, for the ledger and the sidecar."""


class Outbox:
    """Records callbacks and delivers them. `clock` gives epoch seconds. `member` names this listener: an earlier one of
    this name is gone."""

    def __init__(
        self,
        ledger: CallbackLedger,
        notes: CallbackNotes,
        settings: CallbackSettings,
        *,
        member: str,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._ledger = ledger
        self._notes = notes
        self._client = CallbackClient(settings)
        self._settings = settings
        self._member = member
        self._holder = f"{member}:{rng.getrandbits(48):x}"
        self._clock = clock
        self._rng = rng
        self._wanted = asyncio.Event()
        self._released = False
        self._busy: dict[str, str] = {}

    async def add(self, run_id: str, url: str, body: bytes) -> None:
        """Records that `body`, the final sidecar of the run, is to be posted to `url`. Raises StoreUnavailable."""
        now = self._clock()
        address = parse_web_address(url)
        row = CallbackRow(
            run_id=run_id,
            url=url,
            host=address.host_and_port if address else "",
            state="waiting",
            created=now,
            updated=now,
            due=now,
            until=now + self._settings.keep_trying_s,
        )
        if await self._ledger.add(row, body):
            self._wanted.set()

    async def run(self) -> None:
        """Delivers what is due, until cancelled. Goes on while the ledger is away."""
        async with asyncio.TaskGroup() as deliveries:
            while True:
                self._wanted.clear()
                try:
                    await self._begin_some(deliveries)
                except StoreUnavailable as e:
                    log.error("callbacks_not_read", code=e.info.code, error=str(e), hint=e.info.hint)
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._wanted.wait()

    async def _begin_some(self, deliveries: asyncio.TaskGroup) -> None:
        if not self._released:
            await self._ledger.release(self._member)
            self._released = True
        room = AT_ONCE - len(self._busy)
        if room <= 0:
            return
        claimed = await self._ledger.claim(
            self._holder,
            now=self._clock(),
            lease_s=self._settings.timeout_s + _LEASE_S,
            limit=room,
            per_host=PER_HOST,
            busy=Counter(self._busy.values()),
        )
        for callback in claimed:
            self._busy[callback.row.run_id] = callback.row.host
            deliveries.create_task(self._handle(callback), name=f"callback {callback.row.run_id}")

    async def _handle(self, callback: ClaimedCallback) -> None:
        run_id = callback.row.run_id
        try:
            row = callback.row
            if row.state == "waiting":
                row = await self._attempt(callback)
            await self._note(row)
        except StoreUnavailable as e:
            # The lease ends by itself, and the callback is attempted again.
            log.error("callback_not_recorded", run_id=run_id, error=str(e), hint=e.info.hint)
        except Exception:
            # A defect in one callback must not end the others.
            log.exception("callback_defect", run_id=run_id)
        finally:
            self._busy.pop(run_id, None)
            self._wanted.set()

    async def _attempt(self, callback: ClaimedCallback) -> CallbackRow:
        """Makes one POST and records its outcome. Raises StoreUnavailable."""
        row = callback.row
        try:
            outcome = await self._client.post(row.url, callback.body, run_id=row.run_id, attempt=row.attempts)
        except Exception:
            # Counts as a failed attempt: else it would be made again for ever.
            log.exception("callback_defect", run_id=row.run_id)
            outcome = CallbackOutcome("failed", DEFECT.message, DEFECT.hint)
        row = callback_state_after(row, outcome, self._clock(), self._settings.max_attempts, self._rng)
        tell = log.warning if row.state in ("refused", "given_up") else log.info
        event = "callback_failed" if row.state == "waiting" else f"callback_{row.state}"
        tell(event, run_id=row.run_id, attempt=row.attempts, error=row.last_error, hint=row.hint)
        # A delivery that is not recorded would be posted again.
        await Retries(CALLBACK_RECORD).call(partial(self._ledger.record, row), on=_is_away)
        return row

    async def _note(self, row: CallbackRow) -> None:
        """Writes the callback's state into the run's sidecar, and gives the lease back. Raises StoreUnavailable."""
        if row.noted == row.state:
            await self._ledger.postpone(row, row.due)
            return
        try:
            await self._notes.write(row)
        except GpuDropError as e:
            log.info("callback_not_noted", run_id=row.run_id, code=e.info.code, error=str(e))
            now = self._clock()
            if now - row.created < _NOTE_WITHIN_S:
                later = row.due if row.state == "waiting" else now + self._rng.uniform(_NOTE_S / 2, _NOTE_S)
                await self._ledger.postpone(row, later)
                return
        await self._ledger.noted(row, row.state)


def _is_away(error: Exception) -> bool:
    return isinstance(error, StoreUnavailable)
