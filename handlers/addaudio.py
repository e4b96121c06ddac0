"""addaudio: replaces a video's sound."""

from __future__ import annotations

from gpu_dispatch.task import AddAudioParams, GpuResult
from handlers.base import Finished, Plan, PlannedTask, Planning, Reference, TaskTarget
from handlers.files import VIDEO_TYPE, one_video, output_keys, stem, task_file
from manifests.models import AddAudio
from manifests.options import AudioMix, VideoEncoding

DONE = "Video addaudio completed and uploaded to S3 successfully"
OUTPUT = "output.mp4"


class AddAudioHandler:
    operation = "addaudio"
    model = AddAudio

    def references(self, manifest: AddAudio) -> tuple[Reference, ...]:
        return (Reference("video", manifest.video), Reference("audio", manifest.audio))

    def plan(self, planning: Planning[AddAudio]) -> Plan:
        asked = planning.manifest
        key = _output_key(planning)
        video = task_file("video", planning.inputs["video"])
        audio = task_file("audio", planning.inputs["audio"])
        params = AddAudioParams(
            video=video.name,
            audio=audio.name,
            output=OUTPUT,
            **AudioMix.fields_of(asked),
            **VideoEncoding.fields_of(asked),
        )
        return Plan(self.operation, (PlannedTask(params, (video, audio), (TaskTarget(OUTPUT, key, VIDEO_TYPE),)),))

    def finish(self, planning: Planning[AddAudio], plan: Plan, results: tuple[GpuResult, ...]) -> Finished:  # noqa: ARG002
        video, stats = one_video(plan, results)
        return Finished(message=DONE, response={"video_url": video}, stats=stats)


def _output_key(planning: Planning[AddAudio]) -> str:
    name = planning.manifest.output_filename or f"{stem(planning.name)}.mp4"
    return output_keys(planning, [name], where="output_filename")[0]
