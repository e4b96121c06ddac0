"""addaudio: the same frames, new sound, and lengths that are exact to a frame."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from video_oracle import frame_times, gray_frames, packets, samples, top_boxes

from gpu_dispatch.task import AddAudioParams
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.video.addaudio import ReplaceAudio
from gpu_dispatch.worker.video.editlist import end_video_at
from gpu_dispatch.worker.video.encoder import Encoder
from gpu_dispatch.worker.video.ffmpeg import FFmpeg
from manifests.errors import InvalidDuration, NoAudio, NoVideo
from manifests.options import Fit

FRAME = 1 / 24
CARD = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=24:d=5")
VIDEO = (*CARD, "-f", "lavfi", "-i", "sine=220:d=5.5", "-pix_fmt", "yuv420p")
"""Five seconds with B-frames, and a sound of its own that lasts longer."""


def tone(seconds: float) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"sine=880:d={seconds}")


def put(job: JobContext, video: Path, audio: Path) -> None:
    job.path("video").write_bytes(video.read_bytes())
    job.path("audio").write_bytes(audio.read_bytes())


def sounding(path: Path) -> tuple[float, float]:
    """When the tone begins and ends, in seconds."""
    wave, rate = samples(path)
    block = rate // 100
    level = np.sqrt((wave[: len(wave) // block * block].reshape(-1, block) ** 2).mean(axis=1))
    loud = (level > 0.02).nonzero()[0]
    return float(loud[0]) / 100, float(loud[-1] + 1) / 100


@pytest.mark.parametrize(
    ("fit", "seconds", "offset", "length", "heard"),
    [
        ("shortest", 3.7, 0.0, 3.7, (0.0, 3.7)),
        ("shortest", 7.3, 0.0, 5.0, (0.0, 5.0)),
        ("shortest", 3.7, 0.5, 4.2, (0.5, 4.2)),
        ("shortest", 3.7, -1.2, 2.5, (0.0, 2.5)),
        ("video", 3.7, 0.0, 5.0, (0.0, 3.7)),
        ("video", 3.7, 2.5, 5.0, (2.5, 5.0)),
        ("audio", 12.3, 0.0, 12.3, (0.0, 12.3)),
        ("audio", 3.7, 0.25, 3.95, (0.25, 3.95)),
    ],
)
async def test_lengths_are_exact_and_frames_untouched(
    fit: Fit,
    seconds: float,
    offset: float,
    length: float,
    heard: tuple[float, float],
    ffmpeg: FFmpeg,
    encoder: Encoder,
    job: JobContext,
    make: Callable[..., Path],
) -> None:
    source = make("v.mp4", *VIDEO)
    put(job, source, make("a.mp3", *tone(seconds)))
    made = await ReplaceAudio(ffmpeg, encoder)(
        AddAudioParams(video="video", audio="audio", output="out.mp4", fit=fit, offset=offset), job
    )
    output = job.path("out.mp4")
    frames = int(np.ceil(length / FRAME - 1e-6))
    times = frame_times(output)
    assert len(times) == made.files[0].frames == frames
    assert times == pytest.approx([n * FRAME for n in range(frames)], abs=0.001)
    assert made.encoder == "copy"
    copied, original = packets(output), packets(source)
    looped = original * (len(copied) // len(original) + 1)
    assert copied == looped[: len(copied)]
    wave, rate = samples(output)
    assert len(wave) / rate == pytest.approx(length, abs=0.03)
    assert sounding(output) == pytest.approx(heard, abs=0.06)
    with av.open(str(output)) as container:
        assert float(container.duration) / 1e6 == pytest.approx(length, abs=FRAME)
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
    assert top_boxes(output).index("moov") < top_boxes(output).index("mdat")


async def test_a_whole_aac_track_is_copied(
    ffmpeg: FFmpeg, encoder: Encoder, job: JobContext, make: Callable[..., Path]
) -> None:
    audio = make("a.m4a", *tone(3.7))
    put(job, make("v.mp4", *VIDEO), audio)
    await ReplaceAudio(ffmpeg, encoder)(AddAudioParams(video="video", audio="audio", output="out.mp4"), job)
    ours, theirs = samples(job.path("out.mp4"))[0], samples(audio)[0]
    shared = min(len(ours), len(theirs))
    assert abs(len(ours) - len(theirs)) <= 1024
    assert np.array_equal(ours[:shared], theirs[:shared])


async def test_a_short_video_under_a_long_sound_may_grow_by_its_repetitions(
    bundled: FFmpeg, job: JobContext, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speech takes little: the result is many times as large as both."""
    monkeypatch.setattr("gpu_dispatch.output_sizes.SMALLEST_LIMIT", 0)
    monkeypatch.setattr("gpu_dispatch.output_sizes.GROWTH", 2)
    put(job, make("v.mp4", *VIDEO, "-t", "1"), make("a.opus", *tone(60.0), "-c:a", "libopus", "-b:a", "6k"))
    sizes = sum(job.path(name).stat().st_size for name in ("video", "audio"))
    add = ReplaceAudio(bundled, Encoder(bundled))
    made = await add(AddAudioParams(video="video", audio="audio", output="out.mp4", fit="audio"), job)
    assert made.encoder == "copy" and made.files[0].size > 2 * sizes


async def test_a_codec_that_mp4_cannot_hold_is_encoded(
    ffmpeg: FFmpeg, encoder: Encoder, job: JobContext, make: Callable[..., Path]
) -> None:
    put(job, make("v.webm", *CARD, "-t", "2", "-c:v", "libvpx", "-deadline", "realtime"), make("a.mp3", *tone(3.7)))
    made = await ReplaceAudio(ffmpeg, encoder)(
        AddAudioParams(video="video", audio="audio", output="out.mp4", fit="audio"), job
    )
    assert made.encoder == (await encoder.choose()).name
    assert len(gray_frames(job.path("out.mp4"))) == made.files[0].frames == 89


async def test_frames_without_times_are_encoded_when_copying_fails(
    ffmpeg: FFmpeg, encoder: Encoder, job: JobContext, make: Callable[..., Path]
) -> None:
    """MPEG-4 with B-frames in AVI tells when frames are decoded, not when they are shown."""
    put(job, make("v.avi", *CARD, "-t", "2", "-c:v", "mpeg4", "-bf", "2"), make("a.mp3", *tone(1.5)))
    made = await ReplaceAudio(ffmpeg, encoder)(AddAudioParams(video="video", audio="audio", output="out.mp4"), job)
    assert len(gray_frames(job.path("out.mp4"))) == pytest.approx(36, abs=1)
    assert made.files[0].duration == pytest.approx(1.5, abs=0.06)


async def test_a_turned_video_stays_turned(
    ffmpeg: FFmpeg, encoder: Encoder, job: JobContext, make: Callable[..., Path]
) -> None:
    turned = make("turned.mp4", "-display_rotation", "90", "-i", str(make("v.mp4", *VIDEO)), "-c", "copy")
    put(job, turned, make("a.mp3", *tone(3.7)))
    await ReplaceAudio(ffmpeg, encoder)(AddAudioParams(video="video", audio="audio", output="out.mp4"), job)
    with av.open(str(job.path("out.mp4"))) as container:
        assert next(container.decode(video=0)).rotation == 90


async def test_what_is_missing_is_named(bundled: FFmpeg, job: JobContext, make: Callable[..., Path]) -> None:
    add = ReplaceAudio(bundled, Encoder(bundled))
    video, audio = make("v.mp4", *VIDEO), make("a.mp3", *tone(3.7))
    put(job, audio, audio)
    with pytest.raises(NoVideo) as no_video:
        await add(AddAudioParams(video="video", audio="audio", output="out.mp4"), job)
    put(job, video, make("silent.mp4", *CARD, "-pix_fmt", "yuv420p"))
    with pytest.raises(NoAudio) as no_audio:
        await add(AddAudioParams(video="video", audio="audio", output="out.mp4"), job)
    assert (no_video.value.info.where, no_audio.value.info.where) == ("video", "audio")
    put(job, video, audio)
    with pytest.raises(InvalidDuration):
        await add(AddAudioParams(video="video", audio="audio", output="out.mp4", offset=-4.0), job)


async def test_a_file_whose_end_cannot_be_set_is_encoded(
    bundled: FFmpeg, job: JobContext, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its index is larger than one that is edited in memory."""
    monkeypatch.setattr("gpu_dispatch.worker.video.editlist.MAX_INDEX_BYTES", 100)
    put(job, make("v.mp4", *VIDEO), make("a.mp3", *tone(1.5)))
    add = ReplaceAudio(bundled, Encoder(bundled))
    made = await add(AddAudioParams(video="video", audio="audio", output="out.mp4"), job)
    assert made.encoder != "copy" and made.files[0].frames == 36


def box(kind: bytes, *content: bytes) -> bytes:
    inside = b"".join(content)
    return struct.pack(">I4s", len(inside) + 8, kind) + inside


MOVIE, TRACK = box(b"mvhd", struct.pack(">5I", 0, 0, 0, 1000, 9000)), box(b"tkhd", struct.pack(">6I", *[0] * 5, 9000))
MEDIA = box(b"mdia", box(b"hdlr", b"\0" * 8 + b"vide"))
EDITS = box(b"edts", box(b"elst", struct.pack(">5I", 0, 1, 9000, 0, 0)))
EDITED = box(b"moov", MOVIE, box(b"trak", TRACK, MEDIA, EDITS))


@pytest.mark.parametrize(
    "index",
    [
        b"", b"\0" * 6, box(b"mdat", b"x"), box(b"moov"), box(b"moov", b"\0\0\0\4mvhd"), box(b"moov", box(b"mvhd")),
        box(b"moov", box(b"mvhd", b"\0" * 14)), box(b"moov", MOVIE, box(b"trak")),
        box(b"moov", MOVIE, box(b"trak", TRACK)), box(b"moov", MOVIE, box(b"trak", TRACK, box(b"mdia"))),
        box(b"moov", MOVIE, box(b"trak", TRACK, MEDIA, box(b"edts"))),
        box(b"moov", MOVIE, box(b"trak", TRACK, MEDIA, box(b"edts", box(b"elst")))),
        box(b"moov", MOVIE, box(b"trak", TRACK, MEDIA, box(b"edts", box(b"elst", struct.pack(">3I", 0, 9, 9000))))),
    ],
)  # fmt: skip
def test_an_index_that_is_not_ffmpegs_is_refused_and_stays(tmp_path: Path, index: bytes) -> None:
    path = tmp_path / "odd.mp4"
    path.write_bytes(index)
    with pytest.raises(ValueError, match="index"):
        end_video_at(path, 1.0)
    assert path.read_bytes() == index
    path.write_bytes(EDITED)
    end_video_at(path, 1.0)
    assert path.read_bytes() == EDITED.replace(struct.pack(">I", 9000), struct.pack(">I", 1000))
