"""The operation addaudio: replaces a video's sound; its frames are copied wherever MP4 can hold them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from gpu_dispatch.task import AddAudioParams, Videos
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.video.audio_tracks import AudioTrack
from gpu_dispatch.worker.video.editlist import end_video_at
from gpu_dispatch.worker.video.encoder import AAC, FASTSTART, Encoder, EncoderName, can_copy_video, copy_video_args
from gpu_dispatch.worker.video.ffmpeg import EncodeProgress, FFmpeg, untrusted_input
from gpu_dispatch.worker.video.filters import decoder_threads
from gpu_dispatch.worker.video.output import describe, encode_args, reporter
from gpu_dispatch.worker.video.probe import Timeline, VideoTrack, audio_length, probe_media, video_timeline
from manifests.errors import EncodeFailed, InvalidDuration

_LOG = logging.getLogger("gpu_dispatch.worker")

_SAME_S = 0.001


@dataclass(frozen=True, slots=True)
class _Cut:
    """How both tracks are made to last equally long."""

    length: float
    """Seconds."""
    loop_video: bool
    end_video: bool
    """Whether the video has frames that must not be shown."""
    copy_audio: bool
    pad_audio: bool


@dataclass(frozen=True, slots=True)
class ReplaceAudio:
    ffmpeg: FFmpeg
    encoder: Encoder

    async def __call__(self, params: AddAudioParams, job: JobContext) -> Videos:
        """Raises MediaUnreadable, NoVideo, NoAudio, EncodeFailed, and InvalidDuration if the offset skips all sound."""
        track = (await probe_media(self.ffmpeg, job.path(params.video))).require_video()
        sound = (await probe_media(self.ffmpeg, job.path(params.audio))).require_audio()
        timeline = await video_timeline(self.ffmpeg, job.path(params.video))
        audible = None if params.fit == "video" else await audio_length(self.ffmpeg, job.path(params.audio))
        cut = _cut(params, timeline, audible, sound)
        frames, encoder = await self._make(params, job, cut, track, timeline)
        return Videos((await describe(self.ffmpeg, job, params.output, frames, duration=cut.length),), encoder)

    async def _make(
        self, params: AddAudioParams, job: JobContext, cut: _Cut, track: VideoTrack, timeline: Timeline
    ) -> tuple[int, str]:
        if can_copy_video(track):
            try:
                await self._run(params, job, cut, track, copy_video_args(track))
                if cut.end_video:
                    end_video_at(job.path(params.output), cut.length)
                return timeline.frames_until(cut.length), "copy"
            except EncodeFailed as e:
                # Some files hold frames without times, which cannot be copied to MP4.
                if e.retryable:
                    raise
            except ValueError as e:
                _LOG.warning("The end of %s cannot be set in a copy (%s); it is encoded.", params.output, e)

        async def attempt(encoder: EncoderName) -> int:
            return (await self._run(params, job, cut, track, encode_args(track, encoder, params))).frames

        return await self.encoder.encode(attempt)

    async def _run(
        self, params: AddAudioParams, job: JobContext, cut: _Cut, track: VideoTrack, video: Sequence[str]
    ) -> EncodeProgress:
        repeat = ["-stream_loop", "-1"] if cut.loop_video else []
        largest = job.max_looped_bytes if cut.loop_video else job.max_bytes
        return await self.ffmpeg.run(
            [
                *untrusted_input(job.path(params.video), *repeat, *decoder_threads(track)),
                *untrusted_input(job.path(params.audio)),
                *("-map", "0:V:0", *video, "-map", "1:a:0", *_audio(params, cut)),
                *("-map_chapters", "-1", "-t", f"{cut.length:.6f}", *FASTSTART),
                str(job.path(params.output).absolute()),
            ],
            name=params.video,
            doing="putting sound and video together",
            on_tick=reporter(job, cut.length),
            largest=largest(params.video, params.audio),
        )


def _cut(params: AddAudioParams, timeline: Timeline, audible: float | None, sound: AudioTrack) -> _Cut:
    """Plans the lengths; `audible` is the sound's end in seconds, None when the video alone decides."""
    if audible is None:
        return _Cut(timeline.end, loop_video=False, end_video=False, copy_audio=False, pad_audio=True)
    ends = audible + params.offset
    if ends <= _SAME_S:
        raise InvalidDuration(
            f"The offset of {params.offset:g} s skips all {audible:.2f} s of {params.audio}.",
            hint="Give an offset that leaves some of the sound.",
            where="offset",
        )
    length = ends if params.fit == "audio" else min(ends, timeline.end)
    whole = params.offset == 0 and length == ends
    return _Cut(
        length,
        loop_video=length > timeline.end + _SAME_S,
        end_video=abs(length - timeline.end) > _SAME_S,
        copy_audio=whole and sound.codec == "aac",
        pad_audio=False,
    )


def _audio(params: AddAudioParams, cut: _Cut) -> list[str]:
    """Returns output arguments for the sound; a late start is filled with silence, which every player keeps."""
    if cut.copy_audio:
        return ["-c:a", "copy"]
    fill = "aresample=async=1:first_pts=0"
    if params.offset > 0:
        chain = [f"asetpts=PTS+{params.offset:.6f}/TB", fill]
    elif params.offset < 0:
        chain = [fill, f"atrim=start={-params.offset:.6f}", "asetpts=PTS-STARTPTS"]
    else:
        chain = [fill]
    return ["-af", ",".join([*chain, *(["apad"] if cut.pad_audio else [])]), *AAC]
