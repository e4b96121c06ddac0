"""caption: puts subtitles into a video, burnt in or as a track that players switch on."""

from __future__ import annotations

from gpu_dispatch.task import CaptionLayout, CaptionParams, GpuResult
from handlers.base import Finished, Plan, PlannedTask, Planning, Reference, TaskTarget
from handlers.files import VIDEO_TYPE, one_video, output_keys, stem, task_file
from handlers.subtitles.burn_in import write_ass
from handlers.subtitles.cues import make_cues
from handlers.subtitles.model import Segmenter, Subtitles
from handlers.subtitles.parser import parse_subtitles
from handlers.subtitles.srt import write_srt
from manifests.errors import InputMissing
from manifests.models import Caption
from manifests.options import VideoEncoding

DONE = "Video caption completed and uploaded to S3 successfully"
OUTPUT = "captioned.mp4"
SHAPES = ((1920, 1080), (1080, 1920), (1080, 1080))
"""Landscape, portrait and square, in pixels. Only the worker sees the video's shape; it takes the nearest one."""
MAX_SUBTITLE_BYTES = 10 * 2**20
MAX_LAYOUT_CHARACTERS = 32 * 2**20
"""Limit of one shape's captions, which are recorded and sent to the worker: a day of speech, word by word."""


class CaptionHandler:
    """Handles caption. `segmenter` makes cues of a words.json, which has none."""

    operation = "caption"
    model = Caption

    def __init__(self, segmenter: Segmenter = make_cues) -> None:
        self._segmenter = segmenter

    def references(self, manifest: Caption) -> tuple[Reference, ...]:
        return (
            Reference("video", manifest.video),
            Reference("srt", manifest.srt, read=True, max_bytes=MAX_SUBTITLE_BYTES),
        )

    def plan(self, planning: Planning[Caption]) -> Plan:
        """Plans the task. Raises SubtitlesUnreadable or InputMissing before any job is sent."""
        asked = planning.manifest
        key = _output_key(planning)
        subtitles = self._subtitles(planning)
        video = task_file("video", planning.inputs["video"])
        layouts: tuple[CaptionLayout, ...] = ()
        if asked.burn:
            most = MAX_LAYOUT_CHARACTERS
            layouts = tuple(
                CaptionLayout(w, h, write_ass(subtitles.cues, asked, w, h, max_characters=most)) for w, h in SHAPES
            )
        params = CaptionParams(
            video=video.name,
            output=OUTPUT,
            layouts=layouts,
            soft_srt=None if asked.burn else write_srt(subtitles.cues),
            language=(asked.language or subtitles.language).partition("-")[0].lower() or None,
            **VideoEncoding.fields_of(asked),
        )
        return Plan(self.operation, (PlannedTask(params, (video,), (TaskTarget(OUTPUT, key, VIDEO_TYPE),)),))

    def finish(self, planning: Planning[Caption], plan: Plan, results: tuple[GpuResult, ...]) -> Finished:  # noqa: ARG002
        video, stats = one_video(plan, results)
        return Finished(message=DONE, response={"video_url": video}, stats=stats)

    def _subtitles(self, planning: Planning[Caption]) -> Subtitles:
        content = planning.inputs["srt"].content
        if content is None:
            raise InputMissing(
                f"The subtitles {str(planning.inputs['srt'].media)!r} do not lie in the store, so they cannot be read.",
                hint="Put the file into the bucket and name it there.",
                where="srt",
            )
        return parse_subtitles(content, self._segmenter)


def _output_key(planning: Planning[Caption]) -> str:
    name = planning.manifest.output_filename or f"{stem(planning.name)}.captioned.mp4"
    return output_keys(planning, [name], where="output_filename")[0]
