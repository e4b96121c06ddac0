"""The files a run writes itself: made by its handler, and in another process where the results are large."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpu_dispatch.packed import packed_bytes, unpacked
from gpu_dispatch.task import GpuResult
from handlers.base import Finished, Handler, Plan, Planning, Value
from listener.process_pool import WORTH_A_PROCESS, ProcessPool
from manifests.errors import WorkerCrashed


@dataclass(frozen=True, slots=True)
class MadeOutput:
    """`content`: its bytes, or the file that holds them."""

    key: str
    content_type: str
    content: bytes | Path

    async def read(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else await asyncio.to_thread(self.content.read_bytes)


@dataclass(frozen=True, slots=True)
class MadeOutputs:
    """What a handler finished with, see `handlers.base.Finished`."""

    message: str
    files: tuple[MadeOutput, ...]
    response: Mapping[str, Value]
    stats: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class FinishCall:
    """What the jobs' results become outputs with."""

    handler: Handler[Any]
    planning: Planning[Any]
    plan: Plan
    results: tuple[GpuResult, ...]


@asynccontextmanager
async def made_outputs(finish: FinishCall, pool: ProcessPool) -> AsyncGenerator[MadeOutputs]:
    """They can be read inside. Raises what the handler raises, and WorkerCrashed."""
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
    """As `outputs_of`, with the files' content in `folder`."""
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
