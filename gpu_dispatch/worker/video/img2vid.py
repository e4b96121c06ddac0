"""The operation img2vid: makes a clip with a slow zoom of each image."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gpu_dispatch.cores import usable_cores
from gpu_dispatch.task import Clip, Img2VidParams, Progress, VideoFile, Videos
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.video.encoder import BT709_TAGS, FASTSTART, Encoder, EncoderName, video_args
from gpu_dispatch.worker.video.ffmpeg import FFmpeg
from gpu_dispatch.worker.video.image import load_rgb
from gpu_dispatch.worker.video.zoom import Zoom, source_size, zoom_frames
from manifests.errors import EncodeFailed
from manifests.task_groups import task_group

MAX_PARALLEL = 6
"""Below a GeForce driver's limit of eight encode sessions."""

REPORT_EVERY = 8
"""Frames."""


@dataclass(frozen=True, slots=True)
class ImagesToVideo:
    """Renders and encodes clips concurrently."""

    ffmpeg: FFmpeg
    encoder: Encoder
    parallel: int = 0
    """Concurrent clips, at most MAX_PARALLEL; 0: one a core."""

    async def __call__(self, params: Img2VidParams, job: JobContext) -> Videos:
        """Makes the clips, each with exactly the frames it asks for.

        Raises ImageUnreadable, ImageTooLarge or EncodeFailed; the first clip that fails ends the others.
        """
        at_once = min(self.parallel or usable_cores(), MAX_PARALLEL, len(params.clips))
        gate = asyncio.Semaphore(max(1, at_once))
        progress = _Frames(sum(clip.frames for clip in params.clips), job.report)
        threads = 0 if at_once <= 1 else max(1, -(-usable_cores() // at_once))
        async with task_group() as group:
            tasks = [
                group.create_task(self._clip(clip, params, job, gate, threads, progress.counter()))
                for clip in params.clips
            ]
        made = [task.result() for task in tasks]
        names = {name for _, name in made}
        return Videos(tuple(file for file, _ in made), "h264_nvenc" if names == {"h264_nvenc"} else "libx264")

    async def _clip(
        self,
        clip: Clip,
        params: Img2VidParams,
        job: JobContext,
        gate: asyncio.Semaphore,
        threads: int,
        count: Callable[[int], None],
    ) -> tuple[VideoFile, EncoderName]:
        async with gate:
            output = job.path(clip.output)

            async def attempt(encoder: EncoderName) -> int:
                args = [*_raw_input(params), *_output(params, encoder, threads), str(output.absolute())]
                largest = job.largest_clip(clip.frames, params.width, params.height)
                feed = _feeder(job.path(clip.image), clip, params, count)
                done = await self.ffmpeg.run(
                    args, name=clip.image, doing="encoding the clip", feed=feed, largest=largest
                )
                return done.frames

            frames, encoder = await self.encoder.encode(attempt)
            if frames != clip.frames:
                raise EncodeFailed(
                    f"{clip.output} has {frames} frames instead of {clip.frames}.",
                    hint="Run it again; if it stays so, report it.",
                    where=clip.image,
                    retryable=True,
                )
            size = output.stat().st_size
            return VideoFile(clip.output, size, frames / params.fps, params.width, params.height, frames), encoder


def _feeder(image: Path, clip: Clip, params: Img2VidParams, count: Callable[[int], None]) -> Callable[[BinaryIO], None]:
    def feed(pipe: BinaryIO) -> None:
        zoom = Zoom(params.zoom_from, params.zoom_to, clip.frames)
        # No variable holds the picture, so `zoom_frames` can free it once it has its planes.
        frames = zoom_frames(
            load_rgb(image, enough=source_size(params.width, params.height)), params.width, params.height, zoom
        )
        for index, frame in enumerate(frames, 1):
            pipe.write(frame.data)
            if index % REPORT_EVERY == 0 or index == clip.frames:
                count(index)

    return feed


def _raw_input(params: Img2VidParams) -> list[str]:
    shape = ["-pixel_format", "yuv420p", "-video_size", f"{params.width}x{params.height}"]
    return ["-f", "rawvideo", *shape, "-framerate", str(params.fps), *BT709_TAGS, "-i", "pipe:0"]


def _output(params: Img2VidParams, encoder: EncoderName, threads: int) -> list[str]:
    codec = video_args(encoder, params, fps=params.fps, threads=threads)
    return ["-vf", "setsar=1", *codec, *BT709_TAGS, *FASTSTART]


class _Frames:
    """Sums up the clips' frames, which one thread a clip counts; a lost update is corrected by the next."""

    def __init__(self, total: int, report: Callable[[Progress], None]) -> None:
        self._total = max(1, total)
        self._report = report
        self._done: list[int] = []

    def counter(self) -> Callable[[int], None]:
        mine = len(self._done)
        self._done.append(0)

        def count(frames: int) -> None:
            self._done[mine] = frames
            self._report(Progress(100.0 * sum(self._done) / self._total, "encode"))

        return count
