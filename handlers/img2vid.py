"""img2vid: makes each image a clip with a slow zoom, on one machine or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from gpu_dispatch.task import Clip, GpuResult, Img2VidParams, Videos
from handlers.base import Finished, Input, Link, Plan, PlannedTask, Planning, Reference, TaskFile, TaskTarget, Value
from handlers.files import VIDEO_TYPE, missing_output, output_keys, payload_of, task_file
from manifests.errors import InvalidDuration
from manifests.models import Image, Img2Vid
from manifests.options import ImageMotion, VideoEncoding
from manifests.references import MediaRef

DONE = "Images converted to videos and uploaded to S3 successfully"


@dataclass(frozen=True, slots=True)
class SplitLimits:
    """How a list of images is split into jobs."""

    images_per_job: int = 50
    """A longer list is split."""
    max_jobs: int = 3


DEFAULT_SPLIT = SplitLimits()


class Img2VidHandler:
    operation = "img2vid"
    model = Img2Vid

    def __init__(self, split: SplitLimits = DEFAULT_SPLIT) -> None:
        self._split = split

    def references(self, manifest: Img2Vid) -> tuple[Reference, ...]:
        return tuple(Reference(_role(i), image.image) for i, image in enumerate(manifest.images))

    def plan(self, planning: Planning[Img2Vid]) -> Plan:
        asked = planning.manifest
        files = _files([planning.inputs[_role(i)] for i in range(len(asked.images))])
        frames = frame_counts(asked.images, asked.fps)
        keys = output_keys(planning, [_video(i) for i in range(len(frames))])
        clips = [Clip(files[i].name, _video(i), count) for i, count in enumerate(frames)]
        tasks: list[PlannedTask] = []
        for part in split_images(frames, self._split):
            params = Img2VidParams(
                clips=tuple(clips[i] for i in part), **ImageMotion.fields_of(asked), **VideoEncoding.fields_of(asked)
            )
            inputs = tuple(dict.fromkeys(files[i] for i in part))
            outputs = tuple(TaskTarget(_video(i), keys[i], VIDEO_TYPE) for i in part)
            tasks.append(PlannedTask(params, inputs, outputs))
        return Plan(self.operation, tuple(tasks))

    def finish(self, planning: Planning[Img2Vid], plan: Plan, results: tuple[GpuResult, ...]) -> Finished:
        encoders: set[str] = set()
        keys: dict[str, str] = {}
        for task, result in zip(plan.tasks, results, strict=True):
            videos = payload_of(result, Videos)
            encoders.add(videos.encoder)
            made = {file.name for file in videos.files}
            for target in task.outputs:
                if target.name not in made:
                    raise missing_output(result, target.name)
                keys[target.name] = target.key
        images = planning.manifest.images
        listed: list[Value] = [
            {"id": image.id, "video_url": Link(keys[_video(i)]), "filename": _video(i)}
            for i, image in enumerate(images)
        ]
        stats: dict[str, Value] = {
            "total": len(images),
            "processed": len(listed),
            "frames": sum(frame_counts(images, planning.manifest.fps)),
            "encoder": "+".join(sorted(encoders)),
            "tasks": len(results),
        }
        return Finished(message=DONE, response={"videos": tuple(listed)}, stats=stats)


def split_images(frames: Sequence[int], split: SplitLimits) -> list[list[int]]:
    """Splits the images into jobs: the longest clips are dealt first, each to the job with the fewest frames.

    Returns each job's image numbers, ascending. The jobs' frames differ by at most the longest clip's, and the same
    list is always split in the same way.
    """
    needed = -(-len(frames) // split.images_per_job)
    parts: list[list[int]] = [[] for _ in range(max(1, min(needed, split.max_jobs)))]
    loads = [0] * len(parts)
    for i in sorted(range(len(frames)), key=lambda i: -frames[i]):
        part = loads.index(min(loads))
        parts[part].append(i)
        loads[part] += frames[i]
    return [sorted(part) for part in parts]


def frame_counts(images: Sequence[Image], fps: int) -> tuple[int, ...]:
    """Returns each clip's frames, without drift over all clips. Raises InvalidDuration when a clip would have none."""
    counts: list[int] = []
    total, before = Fraction(0), 0
    for i, image in enumerate(images):
        # Sums the decimals as written, not the nearest binary fractions; rounding the sum avoids drift.
        total += Fraction(str(image.duration))
        until = round(total * fps)
        if until == before:
            raise InvalidDuration(
                f"Image {i + 1} is shown for {image.duration} s, less than one frame at {fps} frames a second.",
                hint=f"Give it at least {1 / fps:.3f} s.",
                where=f"images[{i}].duration",
            )
        counts.append(until - before)
        before = until
    return tuple(counts)


def _files(inputs: Sequence[Input]) -> list[TaskFile]:
    """Returns the file of each image; the same image, however often it is shown, is one file."""
    files: dict[MediaRef, TaskFile] = {}
    for found in inputs:
        if found.media not in files:
            files[found.media] = task_file(f"img_{len(files) + 1:04d}", found)
    return [files[found.media] for found in inputs]


def _role(i: int) -> str:
    return f"images[{i}].image"


def _video(i: int) -> str:
    return f"video_{i + 1}.mp4"
