"""The one shape every source of events has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from listener.events import ObjectEvent
from manifests.errors import GpuDropError


@dataclass(frozen=True, slots=True)
class Condition:
    """How a source stands: what `gpudrop status` and the log show. `hint` says what to do when it is not `ok`."""

    ok: bool
    detail: str
    code: str = ""
    hint: str = ""

    @classmethod
    def problem(cls, error: GpuDropError) -> Condition:
        return cls(False, str(error), error.info.code, error.info.hint)


class Inbox(Protocol):
    """Where sources deliver."""

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        """Returns once every event is durably recorded or known to be of no interest: only then may it be acknowledged.

        Calls made at the same time share one transaction: a source need not batch for the inbox's sake.
        Raises StoreUnavailable when it cannot record them; the source delivers the same events again later.
        """
        ...

    def gap(self, source: str, reason: str) -> None:
        """Tells that events may have been missed (a stream was just connected, a buffer overflowed): reconcile soon."""
        ...

    def report(self, source: str, condition: Condition) -> None:
        """Tells how the source stands whenever that changes. A repeated condition costs nothing."""
        ...

    def count(self, source: str, what: str, n: int = 1) -> None:
        """Counts what led to no event ("not_json", "wrong_token"). `what` is one of few: it names a cause, no key."""
        ...


class EventSource(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def exclusive(self) -> bool:
        """Whether only one of several listeners on one database may run it: each would be told everything."""
        ...

    async def run(self, inbox: Inbox) -> None:
        """Delivers events until cancelled. Troubles of the other side are reported and outlived, not raised.

        It may be cancelled and run again: another listener led meanwhile.
        """
        ...


class Opening:
    """Whether a source that others come to has an address of its own yet. The first word on it stays."""

    def __init__(self) -> None:
        self._told = asyncio.Event()
        self._error: GpuDropError | None = None

    def succeeded(self) -> None:
        self._told.set()

    def failed(self, error: GpuDropError) -> None:
        if not self._told.is_set():
            self._error = error
            self._told.set()

    async def wait(self) -> None:
        """Returns once the source takes what comes. Raises why it does not."""
        await self._told.wait()
        if self._error:
            raise self._error


@runtime_checkable
class OpenSource(Protocol):
    """A source that others come to: they are told that this program is ready."""

    @property
    def opening(self) -> Opening: ...
