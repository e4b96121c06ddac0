"""The outputs of a run: which keys it may write, and the files that its handler makes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpu_dispatch.compression import packed_bytes, unpacked
from gpu_dispatch.task import GpuResult
from handlers.base import ANY, Finished, Handler, Plan, Planning, Value
from listener.ledger.ownership import KeyClaim, OutputOwners, OwnedKey
from listener.processes.pool import WORTH_A_PROCESS, ProcessPool
from listener.run_request import RunRequest
from listener.stores.base import Store
from manifests.errors import InvalidPath, OutputTaken, WorkerCrashed
from manifests.names import is_reserved

_FREED_S = 1.0
"""Seconds between two checks whether a key has become free."""


class OutputKeys:
    """Checks and claims the keys that a run writes."""

    def __init__(self, store: Store, owners: OutputOwners) -> None:
        self._store = store
        self._owners = owners

    async def check_sidecars(self, run: RunRequest) -> None:
        """Raises UnusableKey for a drop whose sidecars cannot be written, before anything is paid for."""
        for kind in ("status", "done", "error"):
            await self._store.check_writable(run.bucket, run.sidecar(kind))

    async def secure(self, run: RunRequest, keys: Sequence[str], waiting: Callable[[str], None]) -> None:
        """Claims `keys` for the run. Waits for one that is about to be free, and calls `waiting` with the reason.

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

    async def _claim(self, run: RunRequest, keys: Sequence[str]) -> OwnedKey | None:
        """Claims `keys` for the run; returns the first that is another drop's instead, and then claims none. A drop
        owns what its runs wrote as long as both are in the store. Raises InvalidPath for a reserved name."""
        for key in keys:
            if is_reserved(key):
                raise InvalidPath(f"The output {key!r} would have a name that gpudrop keeps for itself.", hint=_HINT)
        claim = KeyClaim(run.run_id, run.key, run.lineage)
        free: list[OwnedKey] = []
        while taken := await self._owners.claim(run.bucket, keys, claim, free=free):
            for each in taken:
                if each in free:
                    return each
                if (held := await self._held(run.bucket, each)) is not None:
                    return held
                free.append(each)
        return None

    async def _held(self, bucket: str, owned: OwnedKey) -> OwnedKey | None:
        """Returns who owns the key; None: nobody now. The run of a drop that is gone counts as ending: it will be asked
        to."""
        there = await self._store.head(bucket, owned.owner) is not None
        if owned.open:
            return replace(owned, ending=owned.ending or not there)
        if there and ANY not in owned.key:
            there = owned.key == owned.owner or await self._store.head(bucket, owned.key) is not None
        return owned if there else None


def _taken(owned: OwnedKey) -> OutputTaken:
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


@dataclass(frozen=True, slots=True)
class MadeOutput:
    """One output of a run."""

    key: str
    content_type: str
    content: bytes | Path
    """Its bytes, or the file that holds them."""

    async def read(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else await asyncio.to_thread(self.content.read_bytes)


@dataclass(frozen=True, slots=True)
class MadeOutputs:
    """The result of a handler's `finish`, see `handlers.base.Finished`."""

    message: str
    files: tuple[MadeOutput, ...]
    response: Mapping[str, Value]
    stats: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class FinishCall:
    """What a handler's `finish` is called with."""

    handler: Handler[Any]
    planning: Planning[Any]
    plan: Plan
    results: tuple[GpuResult, ...]


@asynccontextmanager
async def made_outputs(finish: FinishCall, pool: ProcessPool) -> AsyncGenerator[MadeOutputs]:
    """Yields the outputs, which can be read inside. Raises what the handler raises, and WorkerCrashed."""
    if sum(map(packed_bytes, finish.results)) < WORTH_A_PROCESS:
        yield await asyncio.to_thread(outputs_of, finish)
        return
    async with pool.folder() as folder:
        yield await pool.run(outputs_on_disk, finish, folder)


def outputs_of(finish: FinishCall) -> MadeOutputs:
    results = tuple(map(unpacked, finish.results))
    return in_memory(finish.handler.finish(finish.planning, finish.plan, results))


def in_memory(finished: Finished) -> MadeOutputs:
    files = tuple(MadeOutput(file.key, file.content_type, file.data) for file in finished.outputs)
    return MadeOutputs(finished.message, files, finished.response, finished.stats)


def outputs_on_disk(finish: FinishCall, folder: Path) -> MadeOutputs:
    """Does what `outputs_of` does, with the files' content in `folder`."""
    outputs = outputs_of(finish)
    try:
        files = tuple(_on_disk(file, folder / str(i)) for i, file in enumerate(outputs.files))
    except OSError as e:
        raise WorkerCrashed(
            f"The outputs cannot be written to the listener's disk: {e}.",
            hint="Give the folder for temporary files more space, then redrive.",
            retryable=False,
        ) from e
    return replace(outputs, files=files)


def _on_disk(output: MadeOutput, path: Path) -> MadeOutput:
    assert isinstance(output.content, bytes)
    path.write_bytes(output.content)
    return replace(output, content=path)
