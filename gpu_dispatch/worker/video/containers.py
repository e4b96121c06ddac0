"""What can live in an MP4 file that ordinary players open."""

from __future__ import annotations

from gpu_dispatch.worker.video.probe import AudioTrack, VideoTrack

VIDEO_IN_MP4 = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})
AUDIO_IN_MP4 = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"})

AAC: tuple[str, ...] = ("-c:a", "aac", "-b:a", "192k")


def can_copy_video(track: VideoTrack) -> bool:
    return track.codec in VIDEO_IN_MP4


def copy_video_args(track: VideoTrack) -> list[str]:
    """Apple's players open HEVC under the tag hvc1 only."""
    return ["-c:v", "copy", *(["-tag:v", "hvc1"] if track.codec == "hevc" else [])]


def audio_args(track: AudioTrack | None) -> list[str]:
    """The sound of the first input as it is, or as AAC when MP4 cannot hold it."""
    if track is None:
        return []
    return ["-map", "0:a:0", *(["-c:a", "copy"] if track.codec in AUDIO_IN_MP4 else AAC)]
