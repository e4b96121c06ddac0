"""Which keys a run may write: those that belong to no other drop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from handlers.base import ANY
from listener.ledger.owners import Claim, OutputOwners, Owned
from listener.runs.request import RunRequest
from listener.store import Store
from manifests.errors import InvalidPath, OutputTaken
from manifests.names import is_reserved


class OutputKeys:
    def __init__(self, store: Store, owners: OutputOwners) -> None:
        self._store = store
        self._owners = owners

    async def claim(self, run: RunRequest, keys: Sequence[str]) -> Owned | None:
        """Makes `keys` the run's; returns the first that is another drop's instead, and then none of them is.

        A drop owns what its runs wrote as long as both lie in the store. Raises InvalidPath for a name of our own.
        """
        for key in keys:
            if is_reserved(key):
                raise InvalidPath(f"The output {key!r} would have a name that gpudrop keeps for itself.", hint=_HINT)
        claim = Claim(run.run_id, run.key, run.lineage)
        free: list[Owned] = []
        while taken := await self._owners.claim(run.bucket, keys, claim, free=free):
            for each in taken:
                if each in free:
                    return each
                if (held := await self._held(run.bucket, each)) is not None:
                    return held
                free.append(each)
        return None

    async def _held(self, bucket: str, owned: Owned) -> Owned | None:
        """None: nobody's any more. A run whose drop is gone will be asked to end, if it has not been yet."""
        there = await self._store.head(bucket, owned.owner) is not None
        if owned.open:
            return replace(owned, ending=owned.ending or not there)
        if there and ANY not in owned.key:
            there = owned.key == owned.owner or await self._store.head(bucket, owned.key) is not None
        return owned if there else None


def output_taken(owned: Owned) -> OutputTaken:
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
