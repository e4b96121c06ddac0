"""From a planned task to the one a worker is given: with addresses, which are secrets and never recorded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpu_dispatch.task import CaptionParams, GpuTask, TaskInput, TaskOutput, task_to_wire
from listener.dispatch.marks import Marks
from listener.dispatch.request import JobRequest
from listener.dispatch.uploads import Uploads
from listener.store import Store
from manifests.media import MediaRef, ObjectRef

LARGE = 2_500_000
"""A longer task may be more than a queue takes at once: RunPod's limit is 10 MB, and a character has up to four."""


@dataclass(frozen=True, slots=True)
class TaskMaker:
    """`link_s`: how long the addresses work. `private_hosts`: hosts beside the store's own that workers may reach."""

    store: Store
    marks: Marks
    uploads: Uploads
    link_s: int
    private_hosts: tuple[str, ...] = ()

    async def task(self, request: JobRequest, attempt: int, *, timeout_s: float, claims: bool) -> GpuTask:
        """`claims`: whether the workers it goes to heed a claim and leave an answer."""
        planned = request.task
        task = GpuTask(
            task_id=request.task_id,
            params=planned.params,
            inputs=tuple([TaskInput(f.name, await self._address(f.media)) for f in planned.inputs]),
            outputs=tuple(
                [TaskOutput(t.name, await self._target(request, t.key, t.content_type), t.content_type)
                 for t in planned.outputs]
            ),
            timeout_s=timeout_s,
            trusted_hosts=(*self.store.trusted_hosts, *self.private_hosts),
        )  # fmt: skip
        if claims:
            put_url, get_url = await self.marks.answer_urls(request, attempt)
            task = replace(
                task,
                claim=await self.marks.claim_urls(request, attempt),
                answer_url=put_url,
                answer_get_url=get_url,
                secret=await self.marks.secret(request, attempt),
                outputs=await self.uploads.prepare(request, task.outputs),
            )
        if not claims or _roughly(task) < LARGE:
            return task
        return replace(task, stored_at=await self.marks.keep_task(request, attempt, task_to_wire(task)))

    async def _address(self, media: MediaRef) -> str:
        if isinstance(media, ObjectRef):
            return await self.store.sign("GET", media.bucket, media.key, expires_s=self.link_s)
        return media.url

    async def _target(self, request: JobRequest, key: str, content_type: str) -> str:
        return await self.store.sign("PUT", request.bucket, key, expires_s=self.link_s, content_type=content_type)


def _roughly(task: GpuTask) -> int:
    """How many characters `task` has, as far as it matters."""
    size = sum(len(each.url) + len(each.name) + 100 for each in (*task.inputs, *task.outputs))
    params = task.params
    if isinstance(params, CaptionParams):
        size += sum(len(layout.ass) for layout in params.layouts) + len(params.soft_srt or "")
    return size
