"""Examines a media file: its tracks, and their exact lengths.

It parses the report of `ffmpeg -i`. ffprobe does not come with imageio-ffmpeg, and with a library more than one program
would open a hostile file; ffmpeg does so under one set of restrictions, in a process that can be killed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from gpu_dispatch.worker.video.audio_tracks import AudioTrack, audio_track
from gpu_dispatch.worker.video.ffmpeg import MAX_FRAME_PIXELS, FFmpeg, error_line, media_unreadable, untrusted_input
from manifests.errors import InputTooLarge, NoAudio, NoVideo

PROBE_TIMEOUT_S = 60.0
MAX_REPORT_LINES = 500
UNKNOWN_FPS = 25.0
MAX_SAMPLE_RATE = 768_000
MAX_CHANNELS = 64

_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
# Metadata is indented by four blanks or more, so a title cannot be taken for a stream.
_STREAM = re.compile(r"^  Stream #0:(\d+)(?:\[0x[0-9a-f]+\])?(?:\(([^)]*)\))?: (Video|Audio): (\w+)(.*)$")
_INPUT = re.compile(r"^Input #0, (.+?), from ")
_ESTIMATED = "Estimating duration from bitrate"
_SIZE = re.compile(r", (\d{1,6})x(\d{1,6})(?: \[SAR (\d+):(\d+) DAR \d+:\d+\])?")
_SAR = re.compile(r", SAR (\d+):(\d+) DAR")
_FPS = re.compile(r", ([\d.]+)(k?) fps\b")
_TBR = re.compile(r", ([\d.]+)(k?) tbr\b")
_PIXELS = re.compile(r", ([a-z][a-z0-9_]+)(?:\(([^)]*)\))?, \d{1,6}x\d{1,6}")
_ROTATION = re.compile(r"^ +display ?matrix: rotation of (-?[\d.]+) degrees", re.IGNORECASE)
_TELLING = re.compile(r"Input #0|  Duration: |  Stream #0:| +display ?matrix: ", re.IGNORECASE)
_PREFIX = re.compile(r"^(?:\[[^\]]* @ 0x[0-9a-f]+\] )?\[(?:info|warning)\] ")
_OWN_NAME = re.compile(r"^file:.*: ")
_COLOUR_WORDS = ("bt", "smpte", "fcc")


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """The first video track that is no cover picture."""

    codec: str
    width: int
    """Of the stored picture."""
    height: int
    """Of the stored picture."""
    sar: tuple[int, int]
    """Shape of a pixel: width to height."""
    rotation: int
    """0, 90, 180 or 270 degrees."""
    fps: float
    steady: bool
    """Whether the frame rate is constant, by the file's report."""
    pix_fmt: str
    full_range: bool
    # ffmpeg's words ("bt709", "smpte2084"), "" when the file names none.
    matrix: str
    primaries: str
    transfer: str

    @property
    def display_size(self) -> tuple[float, float]:
        """Width and height in square pixels, after the rotation."""
        across, down = self.sar
        width = self.width * max(1.0, across / down)
        height = self.height * max(1.0, down / across)
        return (height, width) if self.rotation in (90, 270) else (width, height)


@dataclass(frozen=True, slots=True)
class Media:
    """The tracks of a media file."""

    name: str
    duration: float
    """Seconds by the container, 0.0 when unknown: exact enough for progress, not for cutting."""
    video: VideoTrack | None
    sounds: tuple[AudioTrack, ...]
    """The audio tracks that can be decoded, in the file's order."""
    container: frozenset[str] = frozenset()
    """ffmpeg's names of the container: {"mpegts"}, {"matroska", "webm"}."""
    estimated: bool = False
    """Whether `duration` is a guess from the bitrate: the file does not tell its length."""

    @property
    def audio(self) -> AudioTrack | None:
        """The first audio track."""
        return self.sounds[0] if self.sounds else None

    def require_video(self) -> VideoTrack:
        if not self.video:
            raise NoVideo(
                f"{self.name} has no video track.", hint="Name a file that holds video here.", where=self.name
            )
        if self.video.width * self.video.height > MAX_FRAME_PIXELS:
            raise InputTooLarge(
                f"{self.name} is {self.video.width}x{self.video.height}, larger than can be worked on.",
                hint="Scale it to 8192x8192 or less.",
                where=self.name,
            )
        return self.video

    def require_audio(self) -> AudioTrack:
        if not self.audio:
            raise NoAudio(
                f"{self.name} has no audio track.", hint="Name a file that holds sound here.", where=self.name
            )
        return self.checked(self.audio)

    def checked(self, track: AudioTrack) -> AudioTrack:
        """Returns `track`. Raises InputTooLarge for a shape that no recording has."""
        if track.sample_rate > MAX_SAMPLE_RATE or track.channels > MAX_CHANNELS:
            raise InputTooLarge(
                f"{self.name} has sound of {track.sample_rate} Hz in {track.channels or 'some'} channels.",
                hint=f"Convert it: at most {MAX_SAMPLE_RATE} Hz and {MAX_CHANNELS} channels are worked on.",
                where=self.name,
            )
        return track


async def probe_media(ffmpeg: FFmpeg, path: Path, source: Sequence[str] = ()) -> Media:
    """Examines `path`, opened by the arguments `source`. Raises MediaUnreadable when ffmpeg finds no track in it."""
    report: list[str] = []

    def keep(line: str) -> None:
        text = _PREFIX.sub("", line)
        if len(report) < MAX_REPORT_LINES and (_TELLING.match(text) or text.startswith(_ESTIMATED)):
            report.append(text)

    answer = await ffmpeg.ask(
        ["-loglevel", "level+info", *(source or untrusted_input(path))], timeout_s=PROBE_TIMEOUT_S, on_line=keep
    )
    media = parse_report(report, path.name)
    if media is None or not (media.video or media.audio):
        raise media_unreadable(path.name, _OWN_NAME.sub("", error_line(answer.stderr)))
    return media


def parse_report(lines: Sequence[str], name: str) -> Media | None:
    """Parses the report of `ffmpeg -i`; None when it opened no input."""
    duration, estimated = 0.0, False
    container: frozenset[str] | None = None
    video: VideoTrack | None = None
    sounds: list[AudioTrack] = []
    latest: Literal["video", "other"] = "other"
    for line in lines:
        estimated = estimated or line.startswith(_ESTIMATED)
        if match := _INPUT.match(line):
            container = frozenset(match[1].split(","))
        elif match := _DURATION.match(line):
            duration = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
        elif match := _STREAM.match(line):
            latest = "other"
            index, language, kind, codec, rest = match.groups()
            if kind == "Video" and not video and "(attached pic)" not in rest:
                video = _video(codec, rest)
                latest = "video" if video else "other"
            elif kind == "Audio" and (track := audio_track(index, language or "", codec, rest)):
                sounds.append(track)
        elif video and latest == "video" and (match := _ROTATION.match(line)):
            video = _rotated(video, float(match[1]))
    return None if container is None else Media(name, duration, video, tuple(sounds), container, estimated)


def _video(codec: str, rest: str) -> VideoTrack | None:
    size = _SIZE.search(rest)
    if not size or not int(size[1]) or not int(size[2]):
        return None
    sar = (size[3], size[4]) if size[3] else (m.groups() if (m := _SAR.search(rest)) else ("1", "1"))
    pixels = _PIXELS.search(rest)
    colours = [part.strip() for part in (pixels[2] or "").split(",")] if pixels else []
    words = next((part.split("/") for part in colours if "/" in part or part.startswith(_COLOUR_WORDS)), [""])
    matrix, primaries, transfer = (words * 3)[:3] if len(words) == 1 else [*words, "", ""][:3]
    pix_fmt = pixels[1] if pixels else ""
    return VideoTrack(
        codec=codec,
        width=int(size[1]),
        height=int(size[2]),
        sar=(max(1, int(sar[0])), max(1, int(sar[1]))),
        rotation=0,
        fps=_rate(_FPS, rest) or _rate(_TBR, rest) or UNKNOWN_FPS,
        steady=_rate(_FPS, rest) == _rate(_TBR, rest),
        pix_fmt=pix_fmt,
        full_range="pc" in colours or pix_fmt.startswith("yuvj"),
        matrix=matrix.replace("unknown", ""),
        primaries=primaries.replace("unknown", ""),
        transfer=transfer.replace("unknown", ""),
    )


def _rate(pattern: re.Pattern[str], rest: str) -> float:
    match = pattern.search(rest)
    rate = float(match[1]) * (1000 if match[2] else 1) if match else 0.0
    return rate if rate <= 1000 else 0.0


def _rotated(video: VideoTrack, degrees: float) -> VideoTrack:
    return replace(video, rotation=round(degrees / 90) % 4 * 90)


MAX_FRAMES = 10_000_000
"""A day at 115 frames a second."""
MAX_SOUND_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """The frames of a video track. Times are seconds from the file's start."""

    starts: tuple[float, ...]
    """When each frame is shown, in order."""
    end: float
    """When the last frame ends."""

    def frames_until(self, seconds: float) -> int:
        """Returns the number of frames that begin before `seconds` when the track is looped."""
        rounds, rest = divmod(max(0.0, seconds), self.end)
        return int(rounds) * len(self.starts) + sum(start < rest - 1e-6 for start in self.starts)


async def video_timeline(ffmpeg: FFmpeg, path: Path) -> Timeline:
    """Reads the first video track's packets without decoding them. Raises MediaUnreadable when it has none."""
    reader = _PacketReader(path.name)
    await ffmpeg.read_lines(
        [*untrusted_input(path), "-map", "0:V:0", "-c", "copy", "-f", "framecrc"],
        name=path.name,
        on_line=reader,
    )
    if not reader.starts or reader.end <= 0:
        raise media_unreadable(path.name, "its video track is empty")
    return Timeline(tuple(sorted(reader.starts)), reader.end)


async def audio_length(ffmpeg: FFmpeg, path: Path) -> float:
    """Decodes the first audio track and returns its end in seconds from the file's start; 0.0 when it is empty.

    Raises InputTooLarge when it is longer than MAX_SOUND_S.
    """
    decode = ["-map", "0:a:0", "-vn", "-t", str(MAX_SOUND_S + 1), "-f", "null", "-"]
    tick = await ffmpeg.run([*untrusted_input(path), *decode], name=path.name, doing="measuring the sound")
    if tick.seconds > MAX_SOUND_S:
        raise InputTooLarge(
            f"{path.name} is longer than {MAX_SOUND_S / 3600:g} hours.",
            hint="Cut it into shorter pieces.",
            where=path.name,
        )
    return tick.seconds


class _PacketReader:
    """Parses framecrc: `#tb 0: 1/12288`, then `stream, dts, pts, duration, …` a packet."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.starts: list[float] = []
        self.end = 0.0
        self._tick = 0.0

    def __call__(self, line: str) -> None:
        if line.startswith("#tb 0: "):
            over, under = line.removeprefix("#tb 0: ").split("/")
            self._tick = int(over) / int(under)
        elif line and not line.startswith("#"):
            _, dts, pts, duration = (int(field) for field in line.split(",")[:4])
            shown = pts if pts > -(2**62) else dts
            if len(self.starts) >= MAX_FRAMES:
                raise InputTooLarge(
                    f"{self._name} has more than {MAX_FRAMES:,} frames.",
                    hint="Cut it into shorter pieces.",
                    where=self._name,
                )
            self.starts.append(shown * self._tick)
            self.end = max(self.end, (shown + duration) * self._tick)
