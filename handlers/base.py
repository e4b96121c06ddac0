"""What a handler is: three pure functions of a manifest, and the values that they exchange with the run.

references  which files the manifest names
plan        which tasks to send, once those files exist
finish      what to write next to the inputs, once the tasks have results
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from gpu_dispatch.task import GpuResult, TaskParams
from manifests.models import Manifest
from manifests.references import MediaRef

ANY = "*"
"""In a key of `Plan.writes`: a part known only from the results."""

M = TypeVar("M", bound=Manifest)


@dataclass(frozen=True, slots=True)
class Reference:
    """A file that a manifest names."""

    role: str
    """The manifest's own field, also for messages: "video", "images[3].image"."""
    text: str
    read: bool = False
    """Whether the run reads the content, for small documents that the plan depends on."""
    max_bytes: int = 10 * 2**20
    """Limit of a content that is read."""


@dataclass(frozen=True, slots=True)
class Input:
    """A reference to a file that exists and is not empty."""

    media: MediaRef
    size: int | None = None
    """Bytes; None where only the worker can know."""
    content: bytes | None = None
    """None unless `Reference.read` is set and the file lies in the store."""


@dataclass(frozen=True, slots=True)
class Planning(Generic[M]):
    """Everything that a plan may depend on."""

    manifest: M
    name: str
    """The drop's name without its manifest suffix."""
    bucket: str
    folder: str
    """For outputs: empty, or ending in "/"."""
    inputs: Mapping[str, Input]
    """By role."""


@dataclass(frozen=True, slots=True)
class TaskFile:
    """An input of a planned task, under a name that the handler chose."""

    name: str
    media: MediaRef
    size: int | None = None
    """Bytes; None where only the worker can know."""


@dataclass(frozen=True, slots=True)
class TaskTarget:
    """An output of a planned task."""

    name: str
    key: str
    """In the drop's bucket."""
    content_type: str


@dataclass(frozen=True, slots=True)
class PlannedTask:
    params: TaskParams
    inputs: tuple[TaskFile, ...]
    outputs: tuple[TaskTarget, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The tasks of a run and the keys of its outputs."""

    operation: str
    tasks: tuple[PlannedTask, ...]
    """Independent of each other; they may run at the same time on different machines."""
    writes: tuple[str, ...] = ()
    """Keys that `finish` will write, with `ANY` for unknown parts; another drop's key ends the run before any job."""


@dataclass(frozen=True, slots=True)
class Link:
    """A key of the drop's bucket; the done sidecar has the object's URL instead."""

    key: str


Value = str | int | float | bool | None | Link | Mapping[str, "Value"] | tuple["Value", ...]


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A small document made from the results, which the run writes itself."""

    key: str
    data: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Finished:
    """What a finished run writes and reports."""

    message: str
    outputs: tuple[OutputFile, ...] = ()
    response: Mapping[str, Value] = field(default_factory=dict[str, Value])
    """The operation's part of the done sidecar."""
    stats: Mapping[str, Value] = field(default_factory=dict[str, Value])
    """Joins the done sidecar's `stats` object."""


class Handler(Protocol[M]):
    """One operation. `model` reads its manifests; the three functions neither wait nor touch anything outside."""

    @property
    def operation(self) -> str: ...

    @property
    def model(self) -> type[M]: ...

    def references(self, manifest: M) -> tuple[Reference, ...]: ...

    def plan(self, planning: Planning[M]) -> Plan:
        """Plans the tasks. Raises GpuDropError when the inputs' content cannot be used."""
        ...

    def finish(self, planning: Planning[M], plan: Plan, results: tuple[GpuResult, ...]) -> Finished:
        """Makes the outputs of `results`, which are in the order of `plan.tasks`, each with a payload."""
        ...
