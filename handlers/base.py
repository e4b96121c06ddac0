"""What a handler is: three pure functions of a manifest, and the values that travel between them and the run.

references  which files the manifest names
plan        what to ask of the GPU, once those files are there
finish      what to write next to the inputs, once the GPU has answered
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from gpu_dispatch.task import GpuResult, TaskParams
from manifests.models import Manifest
from manifests.references import MediaRef

ANY = "*"
"""In a key of `Plan.writes`: what is known only once the jobs have answered."""

M = TypeVar("M", bound=Manifest)


@dataclass(frozen=True, slots=True)
class Reference:
    """A file a manifest names. `role` is the manifest's own field, also for messages: "video", "images[3].image".

    `read` asks the run for its content (at most `max_bytes`), for small documents the plan is made from.
    """

    role: str
    text: str
    read: bool = False
    max_bytes: int = 10 * 2**20


@dataclass(frozen=True, slots=True)
class Input:
    """A reference found: it exists, and is not empty. `size` is None where only the worker can know."""

    media: MediaRef
    size: int | None = None
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Planning(Generic[M]):
    """Everything a plan may depend on.

    `name` is the drop's name without its manifest suffix; `folder` the output folder, "" or ending in "/";
    `inputs` by role.
    """

    manifest: M
    name: str
    bucket: str
    folder: str
    inputs: Mapping[str, Input]


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A file a planned task reads (`media`) under a name of ours. `size` is None where only the worker can know."""

    name: str
    media: MediaRef
    size: int | None = None


@dataclass(frozen=True, slots=True)
class TaskTarget:
    """A file a planned task leaves under `key` in the drop's bucket."""

    name: str
    key: str
    content_type: str


@dataclass(frozen=True, slots=True)
class PlannedTask:
    params: TaskParams
    inputs: tuple[TaskFile, ...]
    outputs: tuple[TaskTarget, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """`tasks` are independent of each other and may run at the same time on different machines.

    `writes` are the keys of what `finish` will leave, with `ANY` for a part that is not known yet: a run that would
    write what is another drop's ends before any job is sent.
    """

    operation: str
    tasks: tuple[PlannedTask, ...]
    writes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """A key of the drop's bucket; in the done sidecar it stands as the object's URL."""

    key: str


Value = str | int | float | bool | None | Link | Mapping[str, "Value"] | tuple["Value", ...]


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file the run writes itself: small documents made from the GPU's answer."""

    key: str
    data: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Finished:
    """`response` is the operation's part of the done sidecar; `stats` joins its `stats` object."""

    message: str
    outputs: tuple[OutputFile, ...] = ()
    response: Mapping[str, Value] = field(default_factory=dict[str, Value])
    stats: Mapping[str, Value] = field(default_factory=dict[str, Value])


class Handler(Protocol[M]):
    """One operation. `model` reads its manifests; the three functions neither wait nor touch anything outside."""

    @property
    def operation(self) -> str: ...

    @property
    def model(self) -> type[M]: ...

    def references(self, manifest: M) -> tuple[Reference, ...]: ...

    def plan(self, planning: Planning[M]) -> Plan:
        """Raises GpuDropError when the inputs' content cannot be used."""
        ...

    def finish(self, planning: Planning[M], plan: Plan, results: tuple[GpuResult, ...]) -> Finished:
        """`results` in the order of `plan.tasks`, every one with a payload."""
        ...
