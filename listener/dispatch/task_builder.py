"""Builds a worker's task from a planned one: with links, which are secrets and never recorded."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from math import inf

import structlog

from gpu_dispatch.task import MAX_INPUT_BYTES, SINGLE_PUT_BYTES, CaptionParams, GpuTask, TaskInput, TaskOutput
from gpu_dispatch.wire import task_to_wire
from listener.dispatch.claims import ClaimStore, claim_objects
from listener.dispatch.estimates import is_short
from listener.dispatch.request import JobRequest
from listener.fairness import share_of
from listener.stores.base import JobLinks, JobObjects, Store
from manifests.errors import GpuDropError
from manifests.references import MediaRef, ObjectRef

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

LARGE = 2_500_000
"""Characters above which a task may exceed a queue's limit: RunPod's is 10 MB, and a character has up to four bytes."""

GROWTH = 4
"""An output is assumed to be at most so many times as large as all inputs together."""

PART_BYTES = 64 * 2**20
MOST_PARTS = 10_000
"""S3's limit."""


class MultipartUploads:
    """Begins multipart uploads for outputs that may be too large for one PUT, and ends those that nobody completed. A
    crash forgets them: then a bucket's rule for unfinished uploads removes them."""

    def __init__(self, store: Store, *, single_put_bytes: int = SINGLE_PUT_BYTES) -> None:
        self._store = store
        self._single_put_bytes = single_put_bytes
        self._begun: dict[str, list[tuple[str, str, str]]] = defaultdict(list)

    async def prepare(
        self, request: JobRequest, outputs: tuple[TaskOutput, ...], links: JobLinks
    ) -> tuple[TaskOutput, ...]:
        """Returns `outputs`, with links for parts where the inputs are so large that one PUT may not do."""
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
        """Ends the uploads of a task that nobody completed."""
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


@dataclass(frozen=True, slots=True)
class TaskBuilder:
    """Gives each planned task the links to its inputs, its outputs, its claim and its answer."""

    store: Store
    claims: ClaimStore
    uploads: MultipartUploads
    link_s: float
    """The longest that links work, in seconds."""
    private_hosts: tuple[str, ...] = ()
    """Hosts besides the store's that workers may reach."""
    max_input_bytes: int = MAX_INPUT_BYTES
    """Bytes of all inputs of a task together."""
    max_output_bytes: int = 0
    """Bytes of any output; 0: what its inputs allow."""

    async def task(
        self, request: JobRequest, attempt: int, *, timeout_s: float, claims: bool, lifetime_s: float = inf
    ) -> GpuTask:
        """Returns a worker's task. `claims`: its workers support claims and leave an answer. `lifetime_s`: how long its
        links work."""
        links = await self.store.links(
            _objects(request, attempt, claims=claims), lifetime_s=int(min(lifetime_s, self.link_s))
        )
        task = await self._with_files(request, links, timeout_s)
        if not claims:
            return replace(task, share=share_of(request.bucket, request.key), short=is_short(request.task))
        put_url, get_url = await self.claims.answer_urls(request, attempt, links)
        task = replace(
            task,
            claim=await self.claims.claim_urls(request, attempt, links),
            answer_url=put_url,
            answer_get_url=get_url,
            secret=await self.claims.secret(request, attempt),
            outputs=await self.uploads.prepare(request, task.outputs, links),
        )
        if _approx_chars(task) < LARGE:
            return task
        return replace(task, stored_at=await self.claims.store_task(request, attempt, task_to_wire(task), links))

    async def _with_files(self, request: JobRequest, links: JobLinks, timeout_s: float) -> GpuTask:
        planned = request.task
        inputs = [TaskInput(file.name, await _source(file.media, links)) for file in planned.inputs]
        outputs = [
            TaskOutput(
                target.name,
                await links.sign("PUT", request.bucket, target.key, content_type=target.content_type),
                target.content_type,
            )
            for target in planned.outputs
        ]
        return GpuTask(
            task_id=request.task_id,
            params=planned.params,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            timeout_s=timeout_s,
            max_input_bytes=self.max_input_bytes,
            max_output_bytes=self.max_output_bytes,
            trusted_hosts=(*self.store.trusted_hosts, *self.private_hosts),
        )


async def _source(media: MediaRef, links: JobLinks) -> str:
    if isinstance(media, ObjectRef):
        return await links.sign("GET", media.bucket, media.key)
    return media.url


def _objects(request: JobRequest, attempt: int, *, claims: bool) -> JobObjects:
    """Returns all that the job may touch: its inputs, its outputs, and what its attempt keeps in the run's bucket."""
    media = [file.media for file in request.task.inputs]
    reads = [(each.bucket, each.key) for each in media if isinstance(each, ObjectRef)]
    writes = [(request.bucket, target.key) for target in request.task.outputs]
    if claims:
        kept = claim_objects(request, attempt)
        reads, writes = [*kept.reads, *reads], [*kept.writes, *writes]
    return JobObjects(tuple(reads), tuple(writes))


def _approx_chars(task: GpuTask) -> int:
    """Returns about how many characters `task` has."""
    size = sum(len(each.url) + len(each.name) + 100 for each in (*task.inputs, *task.outputs))
    size += sum(len(url) for output in task.outputs if output.in_parts for url in output.in_parts.parts)
    params = task.params
    if isinstance(params, CaptionParams):
        size += sum(len(layout.ass) for layout in params.layouts) + len(params.soft_srt or "")
    return size
