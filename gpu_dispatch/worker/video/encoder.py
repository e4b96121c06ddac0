"""Which encoder makes H.264 here, and the arguments every output has in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from gpu_dispatch.worker.video.failure import telling_line
from gpu_dispatch.worker.video.ffmpeg import FFmpeg
from manifests.errors import EncodeFailed, TaskTimedOut
from manifests.options import VideoEncoding

EncoderName = Literal["h264_nvenc", "libx264"]
T = TypeVar("T")

PROBE_TIMEOUT_S = 10.0
KEYFRAME_SECONDS = 2.0

FASTSTART: tuple[str, ...] = ("-movflags", "+faststart", "-f", "mp4")
"""The index before the media, so that a player may start before the download ends."""


BT709_TAGS: tuple[str, ...] = (
    *("-color_range", "tv", "-colorspace", "bt709"),
    *("-color_primaries", "bt709", "-color_trc", "bt709"),
)


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """`reason`: why not NVENC; "" when it is."""

    name: EncoderName
    reason: str = ""


class Encoder:
    """Chooses between NVENC and libx264: once by trying, then again for each job that NVENC refuses."""

    def __init__(self, ffmpeg: FFmpeg) -> None:
        self._ffmpeg = ffmpeg
        self._lock = asyncio.Lock()
        self._choice: EncoderChoice | None = None

    async def choose(self) -> EncoderChoice:
        """NVENC when one frame of it can be encoded on this machine. The answer holds as long as this object."""
        async with self._lock:
            if self._choice is None:
                self._choice = await self._try_nvenc()
            return self._choice

    async def encode(self, attempt: Callable[[EncoderName], Awaitable[T]]) -> tuple[T, EncoderName]:
        """`attempt` with the chosen encoder, and with libx264 when NVENC fails: its sessions are limited, and a driver
        may come and go. Returns what `attempt` returned and the encoder that made it. Raises what `attempt` raises."""
        choice = await self.choose()
        if choice.name == "h264_nvenc":
            try:
                return await attempt("h264_nvenc"), "h264_nvenc"
            except EncodeFailed as e:
                if e.retryable:
                    raise
        return await attempt("libx264"), "libx264"

    async def _try_nvenc(self) -> EncoderChoice:
        source = ["-f", "lavfi", "-i", "color=black:s=256x256:r=24", "-frames:v", "1"]
        codec = video_args("h264_nvenc", VideoEncoding(), fps=24)
        args = ["-loglevel", "level+error", *source, *codec, "-f", "null", "-"]
        try:
            ended = await self._ffmpeg.ask(args, timeout_s=PROBE_TIMEOUT_S)
        except TaskTimedOut:
            return EncoderChoice("libx264", f"a test frame took longer than {PROBE_TIMEOUT_S:.0f} seconds")
        if ended.code == 0:
            return EncoderChoice("h264_nvenc")
        return EncoderChoice("libx264", telling_line(ended.stderr) or "a test frame could not be encoded")


def video_args(name: EncoderName, encoding: VideoEncoding, *, fps: float, threads: int = 0) -> list[str]:
    """Output arguments for 8-bit 4:2:0 H.264.

    Groups of pictures are closed and at most two seconds long, so files of one kind can be joined without encoding.
    `threads` bounds libx264; 0 lets it take the machine.
    """
    quality = str(encoding.quality)
    chosen = {
        "h264_nvenc": ["-preset", "p4", "-rc", "vbr", "-cq", quality, "-b:v", "0"],
        "libx264": ["-preset", "veryfast", "-crf", quality, "-threads", str(threads)],
    }[name]
    return ["-c:v", name, *chosen, "-g", str(max(1, round(fps * KEYFRAME_SECONDS))), "-pix_fmt", "yuv420p"]
