"""Uploads in parts, begun for workers whose outputs may be too large for one PUT, and ended when nobody needs them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import structlog

from gpu_dispatch.task import SINGLE_PUT_BYTES, TaskOutput
from listener.dispatch.request import JobRequest
from listener.store import JobLinks, Store
from manifests.errors import GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

GROWTH = 4
"""An output is taken to be at most so many times as large as all inputs together."""

PART_BYTES = 64 * 2**20
MOST_PARTS = 10_000
"""S3's limit."""


class Uploads:
    """What this process has begun. A crash forgets it: then a bucket's rule for unfinished uploads removes them."""

    def __init__(self, store: Store, *, single_put_bytes: int = SINGLE_PUT_BYTES) -> None:
        self._store = store
        self._single_put_bytes = single_put_bytes
        self._begun: dict[str, list[tuple[str, str, str]]] = defaultdict(list)

    async def prepare(
        self, request: JobRequest, outputs: tuple[TaskOutput, ...], links: JobLinks
    ) -> tuple[TaskOutput, ...]:
        """`outputs`, with addresses for parts where the inputs are so large that one PUT may not do."""
        inputs = sum(file.size or 0 for file in request.task.inputs)
        if inputs * GROWTH < self._single_put_bytes:
            return outputs
        return tuple(
            [
                await self._in_parts(request, output, target.key, inputs * GROWTH, links)
                for output, target in zip(outputs, request.task.outputs, strict=True)
            ]
        )

    async def end(self, request: JobRequest) -> None:
        """Ends those of a task that nobody completed."""
        for bucket, key, upload_id in self._begun.pop(request.task_id, []):
            try:
                await self._store.abort_parts(bucket, key, upload_id)
            except GpuDropError as e:
                log.info("upload_left", key=key, code=e.info.code, error=str(e))

    async def _in_parts(
        self, request: JobRequest, output: TaskOutput, key: str, size: int, links: JobLinks
    ) -> TaskOutput:
        part_bytes = max(PART_BYTES, -(-size // MOST_PARTS))
        upload = await links.sign_parts(
            request.bucket,
            key,
            size_hint=size,
            part_bytes=part_bytes,
            content_type=output.content_type,
        )
        if upload is None:
            return output
        self._begun[request.task_id].append((request.bucket, key, upload.id))
        return replace(output, in_parts=upload.urls)
