"""The interface of a dialect: gpudrop's own, and those of published workers."""

from __future__ import annotations

from typing import Any, Protocol

from gpu_dispatch.task import Capability, GpuResult, GpuTask, Progress, TaskParams


class Dialect(Protocol):
    """The wire format of one kind of worker. Pure; only `request` raises, and only a GpuDropError.

    `output` and `error` are JSON from the provider, of any shape.
    """

    @property
    def name(self) -> str:
        """The dialect's name in the configuration."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The capabilities that the configuration may give to its workers."""
        ...

    @property
    def claims(self) -> bool:
        """Whether its workers honour `GpuTask.claim`."""
        ...

    @property
    def names_tasks(self) -> bool:
        """Whether results carry their task's id; otherwise only the job's id identifies them."""
        ...

    def refusal(self, params: TaskParams) -> str:
        """Returns why its workers cannot do a task with `params`, in words; "" when they can."""
        ...

    def request(self, task: GpuTask) -> Any:
        """Returns the `input` of a job for `task`. Raises TaskRefused where the dialect cannot express it."""
        ...

    def progress(self, output: Any) -> Progress | None:
        """Returns the progress in a running job's output; None when there is none."""
        ...

    def result(self, job_id: str, output: Any, error: Any) -> GpuResult | None:
        """Returns the result of an ended job; `error` is set where the provider reports a failure.

        Times are the worker's; the caller fills in the provider's. `task_id` is `job_id` where the worker names no
        task. None: the output is unusable, and the answer in the store decides.
        """
        ...
