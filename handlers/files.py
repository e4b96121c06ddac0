"""What the handlers share: names of inputs and outputs, and checks of the workers' answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from gpu_dispatch.task import GpuResult, Payload, Videos
from handlers.base import Input, Link, Plan, Planning, TaskFile, Value
from manifests.errors import GpuDropError, OutputOverwritesInput, WorkerError
from manifests.keys import check_key
from manifests.media_names import without_extension
from manifests.references import MediaRef, ObjectRef

VIDEO_TYPE = "video/mp4"
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,5}")
_P = TypeVar("_P", bound=Payload)


def file_name(media: MediaRef) -> str:
    """Returns the last part of the key or of the URL's path, decoded; "" for bytes inside the manifest."""
    if isinstance(media, ObjectRef):
        return media.key.rpartition("/")[2]
    if media.url.startswith("data:"):
        return ""
    return unquote(urlsplit(media.url).path).rpartition("/")[2]


def stem(name: str) -> str:
    """Returns `name` without the extension of a media file; a dot elsewhere ("v1.2") stays."""
    return without_extension(name)


def task_file(name: str, found: Input) -> TaskFile:
    """Returns `found` as a task's file `name`, with its extension in lower case as a hint where it has a plain one."""
    suffix = PurePosixPath(file_name(found.media)).suffix
    return TaskFile(name + (suffix.lower() if _EXTENSION.fullmatch(suffix) else ""), found.media, found.size)


def output_keys(planning: Planning[Any], names: Sequence[str], *, where: str = "path") -> tuple[str, ...]:
    """Returns the keys of the outputs `names`. Raises UnusableKey, or OutputOverwritesInput where an input lies."""
    taken = {found.media: role for role, found in planning.inputs.items()}
    keys: list[str] = []
    for name in names:
        key = check_key(planning.folder + name, where=where)
        if (role := taken.get(ObjectRef(planning.bucket, key))) is not None:
            raise OutputOverwritesInput(
                f"The output {key!r} would overwrite the run's own input {role!r}.",
                hint="Give another output_filename, or another folder with path.",
                where=where,
            )
        keys.append(key)
    return tuple(keys)


def payload_of(result: GpuResult, kind: type[_P]) -> _P:
    """Returns the payload, which must be of `kind`; raises the result's own error, or WorkerError."""
    if result.error is not None:
        raise GpuDropError.from_info(result.error)
    if not isinstance(result.payload, kind):
        raise WorkerError(
            f"The worker answered {result.task_id} with something else than {kind.__name__.lower()}.",
            hint="Run listener and workers of the same version.",
        )
    return result.payload


def one_video(plan: Plan, results: Sequence[GpuResult]) -> tuple[Link, Mapping[str, Value]]:
    """Returns the link to the only output of the only task, and its stats."""
    target = plan.tasks[0].outputs[0]
    videos = payload_of(results[0], Videos)
    made = next((file for file in videos.files if file.name == target.name), None)
    if made is None:
        raise missing_output(results[0], target.name)
    stats: dict[str, Value] = {
        "duration": made.duration,
        "frames": made.frames,
        "width": made.width,
        "height": made.height,
        "size": made.size,
        "encoder": videos.encoder,
        "device": results[0].device,
    }
    return Link(target.key), stats


def missing_output(result: GpuResult, name: str) -> WorkerError:
    return WorkerError(
        f"The worker's answer to {result.task_id} lacks {name!r}.",
        hint="Run listener and workers of the same version.",
    )


def link(key: str | None) -> Value:
    """Returns a key as the response shows it: "" where nothing was made."""
    return Link(key) if key else ""
