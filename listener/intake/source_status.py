"""The status of sources: logged when it changes, and kept in the ledger for `gpudrop status`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import structlog

from listener.ledger.sources import SourceLedger, SourceRow
from listener.sources.base import Condition
from manifests.errors import StoreUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources")

_EVERY_S = 5.0
_MAX_NAMES = 64
"""Most kinds of count of a source; the rest are counted together."""

_QUIET = Condition(True, "no word yet")


class SourceStatusRecorder:
    """Records the condition and counts of each source. `clock` gives epoch seconds."""

    def __init__(self, ledger: SourceLedger, member: str, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._member = member
        self._clock = clock
        self._conditions: dict[str, tuple[Condition, float]] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._changed: set[str] = set()

    def report(self, source: str, condition: Condition) -> None:
        known = self._conditions.get(source)
        if known and known[0] == condition:
            return
        since = known[1] if known and known[0].ok == condition.ok else self._clock()
        self._conditions[source] = (condition, since)
        self._changed.add(source)
        if condition.ok:
            level = log.debug if known and known[0].ok else log.info
            level("source_well", source=source, detail=condition.detail)
        else:
            log.error("source_ill", source=source, code=condition.code, error=condition.detail, hint=condition.hint)

    def count(self, source: str, what: str, n: int = 1) -> None:
        counts = self._counts.setdefault(source, Counter())
        counts[what if what in counts or len(counts) < _MAX_NAMES else "other"] += n
        self._changed.add(source)

    async def run(self) -> None:
        """Keeps the ledger up to date, until cancelled."""
        begun = False
        while True:
            try:
                if not begun:
                    await self._ledger.begin(self._member)
                    begun = True
                await self._write()
            except StoreUnavailable as e:
                log.warning("sources_not_recorded", error=str(e), hint=e.info.hint)
            await asyncio.sleep(_EVERY_S)

    async def _write(self) -> None:
        changed, self._changed = self._changed, set()
        if not changed:
            return
        try:
            await self._ledger.put([self._row(source) for source in changed])
        except StoreUnavailable:
            self._changed |= changed
            raise

    def _row(self, source: str) -> SourceRow:
        condition, since = self._conditions.get(source, (_QUIET, self._clock()))
        counts = dict(self._counts.get(source, {}))
        return SourceRow(self._member, source, condition.ok, condition.detail, condition.hint, since, counts)
