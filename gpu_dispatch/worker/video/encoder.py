"""Chooses this machine's H.264 encoder, and knows what an MP4 file that ordinary players open can hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from gpu_dispatch.worker.video.audio_tracks import AudioTrack
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, error_line
from gpu_dispatch.worker.video.probe import VideoTrack
from manifests.errors import EncodeFailed, TaskTimedOut
from manifests.options import VideoEncoding

EncoderName = Literal["h264_nvenc", "libx264"]
T = TypeVar("T")

PROBE_TIMEOUT_S = 10.0
KEYFRAME_SECONDS = 2.0

FASTSTART: tuple[str, ...] = ("-movflags", "+faststart", "-f", "mp4")
"""Puts the index before the media, so that a player can start before the download ends."""


BT709_TAGS: tuple[str, ...] = (
    *("-color_range", "tv", "-colorspace", "bt709"),
    *("-color_primaries", "bt709", "-color_trc", "bt709"),
)


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """The encoder of this machine."""

    name: EncoderName
    reason: str = ""
    """Why it is not NVENC; "" when it is."""


class Encoder:
    """Chooses between NVENC and libx264: by one test, and by falling back for each job that NVENC fails."""

    def __init__(self, ffmpeg: FFmpeg) -> None:
        self._ffmpeg = ffmpeg
        self._lock = asyncio.Lock()
        self._choice: EncoderChoice | None = None

    async def choose(self) -> EncoderChoice:
        """Returns NVENC when it can encode one frame on this machine; the result is kept."""
        async with self._lock:
            if self._choice is None:
                self._choice = await self._try_nvenc()
            return self._choice

    async def encode(self, attempt: Callable[[EncoderName], Awaitable[T]]) -> tuple[T, EncoderName]:
        """Runs `attempt` with the chosen encoder, and again with libx264 when NVENC fails with a lasting error.

        NVENC's sessions are limited, and its driver may come and go. Returns the result of `attempt` and the encoder
        that made it. Raises what `attempt` raises.
        """
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
        return EncoderChoice("libx264", error_line(ended.stderr) or "a test frame could not be encoded")


def video_args(name: EncoderName, encoding: VideoEncoding, *, fps: float, threads: int = 0) -> list[str]:
    """Returns output arguments for 8-bit 4:2:0 H.264.

    Groups of pictures are closed and at most two seconds long, so that files of one kind can be joined without
    encoding. `threads` limits libx264; 0: no limit.
    """
    quality = str(encoding.quality)
    chosen = {
        "h264_nvenc": ["-preset", "p4", "-rc", "vbr", "-cq", quality, "-b:v", "0"],
        "libx264": ["-preset", "veryfast", "-crf", quality, "-threads", str(threads)],
    }[name]
    return ["-c:v", name, *chosen, "-g", str(max(1, round(fps * KEYFRAME_SECONDS))), "-pix_fmt", "yuv420p"]


VIDEO_IN_MP4 = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})
AUDIO_IN_MP4 = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"})

AAC: tuple[str, ...] = ("-c:a", "aac", "-b:a", "192k")


def can_copy_video(track: VideoTrack) -> bool:
    return track.codec in VIDEO_IN_MP4


def copy_video_args(track: VideoTrack) -> list[str]:
    """Returns output arguments that copy `track`; Apple's players open HEVC with the tag hvc1 only."""
    return ["-c:v", "copy", *(["-tag:v", "hvc1"] if track.codec == "hevc" else [])]


def audio_args(track: AudioTrack | None) -> list[str]:
    """Returns output arguments that copy the first input's sound, or encode it as AAC when MP4 cannot hold it."""
    if track is None:
        return []
    return ["-map", "0:a:0", *(["-c:a", "copy"] if track.codec in AUDIO_IN_MP4 else AAC)]


_PAIRS = """
af:afr am:amh ar:ara as:asm az:aze ba:bak be:bel bg:bul bn:ben bo:bod br:bre bs:bos ca:cat cs:ces cy:cym da:dan
de:deu el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas fi:fin fo:fao fr:fra ga:gle gl:glg gu:guj ha:hau he:heb
hi:hin hr:hrv ht:hat hu:hun hy:hye id:ind is:isl it:ita iw:heb ja:jpn jv:jav jw:jav ka:kat kk:kaz km:khm kn:kan
ko:kor ku:kur ky:kir la:lat lb:ltz ln:lin lo:lao lt:lit lv:lav mg:mlg mi:mri mk:mkd ml:mal mn:mon mr:mar ms:msa
mt:mlt my:mya nb:nob ne:nep nl:nld nn:nno no:nor oc:oci pa:pan pl:pol ps:pus pt:por ro:ron ru:rus sa:san sd:snd
si:sin sk:slk sl:slv sn:sna so:som sq:sqi sr:srp su:sun sv:swe sw:swa ta:tam te:tel tg:tgk th:tha tk:tuk tl:tgl
tr:tur tt:tat ug:uig uk:ukr ur:urd uz:uzb vi:vie wo:wol xh:xho yi:yid yo:yor zh:zho zu:zul
"""
_TWO_TO_THREE = {pair[:2]: pair[3:] for pair in _PAIRS.split()}


def iso639_2(tag: str | None) -> str:
    """Returns the ISO 639-2 code: "por" for "pt", "pt-BR" and "por", "und" for an unknown tag."""
    primary = (tag or "").split("-")[0].lower()
    if len(primary) == 3 and primary.isascii() and primary.isalpha():
        return primary
    return _TWO_TO_THREE.get(primary, "und")
