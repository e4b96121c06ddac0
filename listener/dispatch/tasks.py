"""From a planned task to the one a worker is given: with addresses, which are secrets and never recorded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from gpu_dispatch.task import MAX_INPUT_BYTES, CaptionParams, GpuTask, TaskInput, TaskOutput, task_to_wire
from listener.dispatch.estimates import is_short
from listener.dispatch.marks import Marks, claimed_places
from listener.dispatch.request import JobRequest
from listener.dispatch.uploads import Uploads
from listener.fair_shares import share_of
from listener.store import JobLinks, JobObjects, Store
from manifests.media import MediaRef, ObjectRef

LARGE = 2_500_000
"""A longer task may be more than a queue takes at once: RunPod's limit is 10 MB, and a character has up to four."""


@dataclass(frozen=True, slots=True)
class TaskMaker:
    """`link_s`: the longest that addresses work. `private_hosts`: hosts beside the store's that workers may reach.
    `max_input_bytes`: of all inputs of a task together.
    """

    store: Store
    marks: Marks
    uploads: Uploads
    link_s: float
    private_hosts: tuple[str, ...] = ()
    max_input_bytes: int = MAX_INPUT_BYTES

    async def task(
        self, request: JobRequest, attempt: int, *, timeout_s: float, claims: bool, lives_s: float = inf
    ) -> GpuTask:
        """`claims`: whether its workers heed a claim and leave an answer. `lives_s`: how long its addresses work."""
        planned = request.task
        objects = _objects(request, attempt, claims=claims)
        links = await self.store.links(objects, lives_s=int(min(lives_s, self.link_s)))
        task = GpuTask(
            task_id=request.task_id,
            params=planned.params,
            inputs=tuple([TaskInput(f.name, await _address(f.media, links)) for f in planned.inputs]),
            outputs=tuple(
                [TaskOutput(t.name, await _target(request, t.key, t.content_type, links), t.content_type)
                 for t in planned.outputs]
            ),
            timeout_s=timeout_s,
            max_input_bytes=self.max_input_bytes,
            trusted_hosts=(*self.store.trusted_hosts, *self.private_hosts),
        )  # fmt: skip
        if not claims:
            return replace(task, share=share_of(request.bucket, request.key), short=is_short(planned))
        put_url, get_url = await self.marks.answer_urls(request, attempt, links)
        task = replace(
            task,
            claim=await self.marks.claim_urls(request, attempt, links),
            answer_url=put_url,
            answer_get_url=get_url,
            secret=await self.marks.secret(request, attempt),
            outputs=await self.uploads.prepare(request, task.outputs, links),
        )
        if _roughly(task) < LARGE:
            return task
        return replace(task, stored_at=await self.marks.keep_task(request, attempt, task_to_wire(task), links))


async def _address(media: MediaRef, links: JobLinks) -> str:
    if isinstance(media, ObjectRef):
        return await links.sign("GET", media.bucket, media.key)
    return media.url


async def _target(request: JobRequest, key: str, content_type: str, links: JobLinks) -> str:
    return await links.sign("PUT", request.bucket, key, content_type=content_type)


def _objects(request: JobRequest, attempt: int, *, claims: bool) -> JobObjects:
    """All that the job may touch: its inputs, its outputs, and what its attempt leaves in the run's bucket."""
    media = [file.media for file in request.task.inputs]
    reads = [(each.bucket, each.key) for each in media if isinstance(each, ObjectRef)]
    writes = [(request.bucket, target.key) for target in request.task.outputs]
    if claims:
        kept = claimed_places(request, attempt)
        reads, writes = [*kept.reads, *reads], [*kept.writes, *writes]
    return JobObjects(tuple(reads), tuple(writes))


def _roughly(task: GpuTask) -> int:
    """How many characters `task` has, as far as it matters."""
    size = sum(len(each.url) + len(each.name) + 100 for each in (*task.inputs, *task.outputs))
    size += sum(len(url) for output in task.outputs if output.in_parts for url in output.in_parts.parts)
    params = task.params
    if isinstance(params, CaptionParams):
        size += sum(len(layout.ass) for layout in params.layouts) + len(params.soft_srt or "")
    return size
