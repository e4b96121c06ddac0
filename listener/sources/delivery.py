"""Delivering to the inbox without losing anything, and how long to wait between attempts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import structlog

from gpu_dispatch.waiting import Backoff
from listener.events import ObjectEvent
from listener.sources.base import Inbox
from manifests.errors import GpuDropError, StoreUnavailable

_SLOW_S = 5.0
_CAP_S = 30.0

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources")


class Retries:
    """Failures in a row, and how long to wait after each. Seconds, with full jitter."""

    def __init__(self, base_s: float, cap_s: float) -> None:
        self._backoff = Backoff(base_s, cap_s)
        self._rng = random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._failures = 0

    def next_s(self) -> float:
        self._failures += 1
        return self._backoff.delay(self._failures, self._rng)

    def reset(self) -> None:
        self._failures = 0


async def deliver(inbox: Inbox, events: Sequence[ObjectEvent], *, source: str) -> bool:
    """Tries until the inbox has the events. False: it took so long that whoever told them may have dropped others.

    Events that it will never have (an error that does not pass) are logged and left out, not their neighbours.
    """
    if not events:
        return True
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        await _insist(inbox, events, source)
    except GpuDropError:
        for event in events:
            try:
                await _insist(inbox, [event], source)
            except GpuDropError as e:
                told = {"code": e.info.code, "error": str(e), "hint": e.info.hint}
                log.error("event_refused", source=source, bucket=event.bucket, key=event.key, **told)
    return loop.time() - started <= _SLOW_S


async def _insist(inbox: Inbox, events: Sequence[ObjectEvent], source: str) -> None:
    backoff = Retries(0.2, _CAP_S)
    while True:
        try:
            return await inbox.accept(events)
        except StoreUnavailable as e:
            wait_s = backoff.next_s()
            told = {"events": len(events), "error": str(e), "retry_s": round(wait_s, 2)}
            log.warning("events_not_accepted", source=source, **told)
            await asyncio.sleep(wait_s)
