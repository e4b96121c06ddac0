"""The one shape every source of events has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from listener.events import ObjectEvent


class Inbox(Protocol):
    """Where sources deliver."""

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        """Returns once every event is durably recorded or known to be of no interest: only then may it be acknowledged.

        Raises StoreUnavailable when it cannot; the source delivers the same events again later. Any other GpuDropError
        is about an event that can never be accepted: the source then delivers the events one by one, without it.
        """
        ...

    def gap(self, source: str, reason: str) -> None:
        """Tells that events may have been missed (a stream was just connected, a buffer overflowed): reconcile soon."""
        ...


class EventSource(Protocol):
    @property
    def name(self) -> str: ...

    async def run(self, inbox: Inbox) -> None:
        """Delivers events until cancelled. Troubles of the other side are logged and outlived, not raised."""
        ...
