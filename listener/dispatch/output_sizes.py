"""Checks the sizes of what a job left in the store, afterwards: a link to write with limits none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from gpu_dispatch.output_sizes import largest_clip, largest_from, largest_looped
from gpu_dispatch.task import MAX_INPUT_BYTES, AddAudioParams, Img2VidParams
from gpu_dispatch.transfer.parts import gather_transfers
from handlers.base import PlannedTask, TaskFile
from listener.dispatch.request import JobRequest
from listener.outages import OutageRetry
from listener.stores.base import ObjectMeta, Store
from manifests.errors import GpuDropError, ResourceExhausted

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

_SKEW_S = 5.0
"""Seconds that the store's clock may lie behind ours."""


@dataclass(frozen=True, slots=True)
class OutputSizes:
    """Checks what the attempts at a task wrote."""

    store: Store
    outages: OutageRetry
    most: int = 0
    """Bytes that any output may have; 0: what its inputs allow."""
    max_input_bytes: int = MAX_INPUT_BYTES
    """Bytes of all inputs of a task."""

    async def check(self, request: JobRequest, since: float) -> None:
        """Raises ResourceExhausted for an output that is larger than it may be. It is removed if it was written after
        `since` (epoch seconds), and so by this attempt."""
        await self.outages.retry(self._check, request, since)

    async def _check(self, request: JobRequest, since: float) -> None:
        large = await self._larger_than_allowed(request)
        await self._remove(request, large, since)
        if large:
            first = min(large, key=lambda meta: meta.key)
            raise ResourceExhausted(
                f"The worker left {first.size:,} bytes under {first.key!r}, more than such an output may have.",
                hint="If the media need it, raise task_max_output in config.yaml; else look at who runs the worker.",
                where=first.key,
            )

    async def clean(self, request: JobRequest, since: float) -> None:
        """Removes what a failed attempt wrote that is too large. Raises nothing."""
        try:
            await self._remove(request, await self._larger_than_allowed(request), since)
        except GpuDropError as e:
            log.info("outputs_not_looked_at", run_id=request.run_id, code=e.info.code, error=str(e))

    async def _larger_than_allowed(self, request: JobRequest) -> Sequence[ObjectMeta]:
        found: list[ObjectMeta] = []

        async def look(key: str, largest: int) -> None:
            meta = await self.store.head(request.bucket, key)
            if meta and meta.size > largest:
                found.append(meta)

        targets = request.task.outputs
        sizes = self.largest(request.task) if targets else {}
        await gather_transfers(partial(look, target.key, sizes[target.name]) for target in targets)
        return found

    async def _remove(self, request: JobRequest, metas: Sequence[ObjectMeta], since: float) -> None:
        for meta in metas:
            if meta.last_modified.timestamp() >= since - _SKEW_S:
                log.warning("output_removed", run_id=request.run_id, key=meta.key, size=meta.size)
                await self.store.delete(request.bucket, meta.key)

    def largest(self, task: PlannedTask) -> dict[str, int]:
        """Returns the largest size that each output may have, by name; a worker that keeps its task's limits leaves no
        larger ones."""
        params, inputs = task.params, self._bytes_of(task.inputs)
        found = {target.name: largest_from(inputs, self.most) for target in task.outputs}
        if isinstance(params, Img2VidParams):
            for clip in params.clips:
                found[clip.output] = largest_clip(clip.frames, params.width, params.height, self.most)
        elif isinstance(params, AddAudioParams) and params.fit == "audio":
            sound = self._bytes_of([file for file in task.inputs if file.name == params.audio])
            found[params.output] = largest_looped(inputs, sound, self.most)
        return found

    def _bytes_of(self, files: Sequence[TaskFile]) -> int:
        sizes = [file.size for file in files]
        return self.max_input_bytes if None in sizes else sum(filter(None, sizes))
