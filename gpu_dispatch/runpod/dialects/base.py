"""The languages workers speak: ours, and those of workers that people already run."""

from __future__ import annotations

from typing import Any, Protocol

from gpu_dispatch.task import Capability, GpuResult, GpuTask, Progress, TaskParams


class Dialect(Protocol):
    """How tasks and answers look to one kind of worker. Pure; only `request` raises, and only a GpuDropError.

    `output` and `error` are whatever JSON the provider hands on: nothing about their shape is taken for granted.
    """

    @property
    def name(self) -> str:
        """As the configuration calls it."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What its workers may be said to be capable of."""
        ...

    @property
    def claims(self) -> bool:
        """Whether these workers heed `GpuTask.claim`."""
        ...

    @property
    def names_tasks(self) -> bool:
        """Whether results carry the id of the task they are of. Else the job's id alone tells whose they are."""
        ...

    def refusal(self, params: TaskParams) -> str:
        """Why these workers cannot do a task with `params`, in words; "" when they can."""
        ...

    def request(self, task: GpuTask) -> Any:
        """The `input` of a job that does `task`. Raises TaskRefused where these workers cannot be told."""
        ...

    def progress(self, output: Any) -> Progress | None:
        """What the output of a job that still runs says of its way; None: nothing."""
        ...

    def result(self, job_id: str, output: Any, error: Any) -> GpuResult | None:
        """What came of a job that ended; `error` is set where the provider says that it failed.

        The result's times are those the worker tells; the provider's are the caller's to fill in, and so is `task_id`
        where the worker does not tell it: it is `job_id` then. None: nothing usable came, and what the worker left in
        the store tells.
        """
        ...
