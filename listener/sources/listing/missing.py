"""Objects that are gone although nobody told: what the ledger knows of and a whole listing did not meet.

Keys of unfinished runs are looked for in every listing, since whoever deletes a drop wants its run to end. Of all keys
that were ever taken in each listing looks for some more, from where the one before left off, so that the ledger does
not keep rows of what is gone for ever. No order of keys is relied on, and memory does not grow with the bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

PAGE = 2000
"""Keys taken in that one listing looks for."""


class ExpectedObjects(Protocol):
    """Which keys ought to be there. Both raise StoreUnavailable when that cannot be told now."""

    async def unfinished(self, bucket: str) -> Sequence[str]:
        """Keys of runs that have not ended, not necessarily all."""
        ...

    async def taken_in(self, bucket: str, *, after: str, limit: int) -> Sequence[str]:
        """Keys behind `after`, in an order that is always the same; fewer than `limit` are the last."""
        ...


class MissingObjects:
    """One listing of `bucket` at a time. What it says is gone may be there all the same: a HEAD decides."""

    def __init__(self, expected: ExpectedObjects) -> None:
        self._expected = expected
        self._after: dict[str, str] = {}
        self._looked_for: dict[str, set[str]] = {}
        self._met: set[str] = set()

    async def begin(self, bucket: str) -> None:
        page = await self._expected.taken_in(bucket, after=self._after.get(bucket, ""), limit=PAGE)
        self._after[bucket] = page[-1] if len(page) == PAGE else ""
        self._looked_for[bucket] = {*page, *await self._expected.unfinished(bucket)}
        self._met.discard(bucket)

    def met(self, bucket: str, key: str) -> None:
        self._looked_for[bucket].discard(key)
        self._met.add(bucket)

    def gone(self, bucket: str, prefixes: Sequence[str]) -> list[str]:
        """What a listing of all of `prefixes` should have met. Nothing, where it met nothing at all: a folder whose
        disk is not mounted looks empty, and that should end no runs."""
        left = self._looked_for.pop(bucket, set())
        return sorted(key for key in left if key.startswith(tuple(prefixes))) if bucket in self._met else []
