"""Keys that cannot be worked with: each is named once and counted once."""

from __future__ import annotations

import structlog

from listener.sources.base import Inbox
from listener.store import OddKey

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.reconcile")

MAX_NAMED = 1000
"""So many are named and counted; of more, memory and log would be full."""
UNUSABLE = "unusable_key"


class UnusableKeys:
    def __init__(self, source: str) -> None:
        self._source = source
        self._named: set[tuple[str, str]] = set()

    def tell(self, bucket: str, item: OddKey, inbox: Inbox) -> None:
        at = (bucket, item.key)
        if at in self._named or len(self._named) >= MAX_NAMED:
            return
        self._named.add(at)
        inbox.count(self._source, UNUSABLE)
        log.warning("key_unusable", bucket=bucket, key=item.key[:200], problem=item.problem, hint="Rename the object.")
        if len(self._named) == MAX_NAMED:
            log.warning("keys_unusable", named=MAX_NAMED, hint="There may be more; they are not named any longer.")
