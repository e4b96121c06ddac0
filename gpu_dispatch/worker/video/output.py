"""What the video operations share: encoding arguments, progress reports and the description of an output."""

from __future__ import annotations

from collections.abc import Callable

from gpu_dispatch.task import Progress, VideoFile
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.video.encoder import EncoderName, video_args
from gpu_dispatch.worker.video.ffmpeg import EncodeProgress, FFmpeg
from gpu_dispatch.worker.video.filters import frame_threads, keep_times, normalising_filters
from gpu_dispatch.worker.video.probe import VideoTrack, probe_media
from manifests.options import VideoEncoding


def encode_args(track: VideoTrack, encoder: EncoderName, encoding: VideoEncoding, *filters: str) -> list[str]:
    """Returns output arguments that normalise `track`, apply `filters` and encode it."""
    chain = [*normalising_filters(track), *filters]
    codec = video_args(encoder, encoding, fps=track.fps, threads=frame_threads(track))
    return ["-vf", ",".join(chain), *codec, *keep_times(track)]


def reporter(job: JobContext, seconds: float) -> Callable[[EncodeProgress], None]:
    """Returns a callback that reports ffmpeg's progress towards `seconds` of output; nothing for an unknown length."""

    def report(tick: EncodeProgress) -> None:
        if seconds > 0:
            job.report(Progress(min(100.0, 100.0 * tick.seconds / seconds), "encode"))

    return report


async def describe(
    ffmpeg: FFmpeg, job: JobContext, name: str, frames: int, *, duration: float | None = None
) -> VideoFile:
    """Describes the output `name` in the job's folder; `duration` replaces the container's, where it is more exact."""
    path = job.path(name)
    made = await probe_media(ffmpeg, path)
    shape = made.require_video()
    length = made.duration if duration is None else duration
    return VideoFile(name, path.stat().st_size, length, shape.width, shape.height, frames)
