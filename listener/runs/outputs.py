"""Which keys a run may write: those that belong to no other drop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from handlers.base import ANY
from listener.ledger.owners import ClaimedKeys, KeyClaim, OutputOwners
from listener.run_request import RunRequest
from listener.store import Store
from manifests.errors import InvalidPath, OutputTaken
from manifests.names import is_reserved

_FREED_S = 1.0
"""How often it is looked whether a key has become free."""


class OutputKeys:
    def __init__(self, store: Store, owners: OutputOwners) -> None:
        self._store = store
        self._owners = owners

    async def check_sidecars(self, run: RunRequest) -> None:
        """Raises UnusableKey for a drop that could not be told how it ended: before anything is paid for."""
        for kind in ("status", "done", "error"):
            await self._store.check_writable(run.bucket, run.sidecar(kind))

    async def secure(self, run: RunRequest, keys: Sequence[str], waiting: Callable[[str], None]) -> None:
        """Makes `keys` the run's. One that is about to be free is waited for, and `waiting` told why.

        Raises OutputTaken for a key that stays another drop's, InvalidPath, and UnusableKey and ObjectDenied for one
        that the store cannot hold.
        """
        for key in keys:
            await self._store.check_writable(run.bucket, key)
        now = asyncio.get_running_loop().time
        deadline = now() + run.trigger.wait_for_inputs_s
        while taken := await self._claim(run, keys):
            if not taken.ending or now() >= deadline:
                raise _taken(taken)
            waiting(f"the end of {taken.owner}, which writes {taken.key} too")
            await asyncio.sleep(_FREED_S)

    async def _claim(self, run: RunRequest, keys: Sequence[str]) -> ClaimedKeys | None:
        """Makes `keys` the run's; returns the first that is another drop's instead, and then none of them is.

        A drop owns what its runs wrote as long as both lie in the store. Raises InvalidPath for a name of our own.
        """
        for key in keys:
            if is_reserved(key):
                raise InvalidPath(f"The output {key!r} would have a name that gpudrop keeps for itself.", hint=_HINT)
        claim = KeyClaim(run.run_id, run.key, run.lineage)
        free: list[ClaimedKeys] = []
        while taken := await self._owners.claim(run.bucket, keys, claim, free=free):
            for each in taken:
                if each in free:
                    return each
                if (held := await self._held(run.bucket, each)) is not None:
                    return held
                free.append(each)
        return None

    async def _held(self, bucket: str, owned: ClaimedKeys) -> ClaimedKeys | None:
        """None: nobody's any more. A run whose drop is gone will be asked to end, if it has not been yet."""
        there = await self._store.head(bucket, owned.owner) is not None
        if owned.open:
            return replace(owned, ending=owned.ending or not there)
        if there and ANY not in owned.key:
            there = owned.key == owned.owner or await self._store.head(bucket, owned.key) is not None
        return owned if there else None


def _taken(owned: ClaimedKeys) -> OutputTaken:
    what = "is a drop itself" if owned.key == owned.owner else f"belongs to another drop, {owned.owner!r}"
    return OutputTaken(
        f"The output {owned.key!r} {what}.",
        hint=f"{_HINT} Or delete {owned.owner!r}; then drop this again.",
        where="path",
    )


_HINT = (
    "Give outputs names of their own: `naming: media`, another `output_filename`, or a folder as `path`, in a trigger "
    'such as "{stem}/".'
)
