"""caption: burnt in where and when it should be, nothing else changed; or a track of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from video_oracle import frame_times, gray_frames, packets, samples, top_boxes

from gpu_dispatch.task import CaptionLayout, CaptionParams, Progress
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.video.caption import BurnOrMux, bundled_folder
from gpu_dispatch.worker.video.encoder import Encoder
from gpu_dispatch.worker.video.ffmpeg import FFmpeg
from manifests.errors import FontMissing, MediaUnreadable, NoVideo

GREY = ("-f", "lavfi", "-i", "color=0x606060:s=640x360:r=24:d=3")
TONE = ("-f", "lavfi", "-i", "sine=440:d=3")
FAST = ("-preset", "ultrafast", "-pix_fmt", "yuv420p")


def layout(text: str, width: int = 640, height: int = 360, extra: str = "") -> CaptionLayout:
    """`text` in white at the bottom, from second 1 to second 2."""
    return CaptionLayout(
        width,
        height,
        f"[Script Info]\nScriptType: v4.00+\nPlayResX: {width}\nPlayResY: {height}\n\n[V4+ Styles]\n"
        "Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic,"
        " Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL,"
        " MarginR, MarginV, Encoding\n"
        "Style: Default,Open Sans,36,&H00FFFFFF,&H000000FF,&H00000000,&H80000000,-1,0,0,0,100,100,0,0,1,2,0,2,9,9,20,1"
        f"\n{extra}\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        f"Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{text}\n",
    )


def put(job: JobContext, source: Path, name: str = "in.mp4") -> Path:
    path = job.path(name)
    path.write_bytes(source.read_bytes())
    return path


async def test_words_show_only_in_their_place_and_time(
    ffmpeg: FFmpeg, encoder: Encoder, told: tuple[JobContext, list[Progress]], make: Callable[..., Path]
) -> None:
    job, reports = told
    source = put(job, make("a.mp4", *GREY, *TONE, *FAST))
    # No fonts but the package's own: what a machine without any has.
    burn = BurnOrMux(ffmpeg, encoder, fonts=(bundled_folder(),))
    made = await burn(
        CaptionParams(video="in.mp4", output="out.mp4", layouts=(layout("Ação já, verão às dez"),), quality=18), job
    )
    before, after = gray_frames(source), gray_frames(job.path("out.mp4"))
    assert len(after) == len(before) == made.files[0].frames == 72
    for index, (a, b) in enumerate(zip(before, after, strict=True)):
        off = np.abs(a.astype(int) - b.astype(int))
        if 24 <= index < 48:
            assert b[280:345].max() > 220
            assert off[:260].max() <= 6
        else:
            assert off.max() <= 6
    inked = (after[36] > 200).nonzero()
    assert abs((inked[1].min() + inked[1].max()) / 2 - 320) < 8
    assert samples(job.path("out.mp4"))[0].shape == samples(source)[0].shape
    assert top_boxes(job.path("out.mp4")).index("moov") < top_boxes(job.path("out.mp4")).index("mdat")
    assert (made.encoder, made.files[0].duration) == ((await encoder.choose()).name, pytest.approx(3.0, abs=0.05))
    assert reports[-1].percent > 90


async def test_bold_is_a_real_bold(
    ffmpeg: FFmpeg, encoder: Encoder, job: JobContext, make: Callable[..., Path]
) -> None:
    put(job, make("a.mp4", *GREY, *FAST))
    ink: dict[str, int] = {}
    for weight in ("-1", "0"):
        one = layout("HHHHHHHH")
        ass = one.ass.replace(",-1,0,0,0,100", f",{weight},0,0,0,100")
        params = CaptionParams(
            video="in.mp4", output=f"out{weight}.mp4", layouts=(CaptionLayout(640, 360, ass),), quality=18
        )
        await BurnOrMux(ffmpeg, encoder, fonts=(bundled_folder(),))(params, job)
        ink[weight] = int((gray_frames(job.path(f"out{weight}.mp4"))[36] > 200).sum())
    assert ink["-1"] > ink["0"] * 1.25


async def test_a_phone_video_is_upright_and_takes_the_upright_layout(
    ffmpeg: FFmpeg, encoder: Encoder, job: JobContext, make: Callable[..., Path]
) -> None:
    stored = make("a.mp4", *GREY, *FAST)
    put(job, make("phone.mp4", "-display_rotation", "90", "-i", str(stored), "-c", "copy"))
    layouts = (layout("wide"), layout("up", 360, 640))
    made = await BurnOrMux(ffmpeg, encoder)(CaptionParams(video="in.mp4", output="out.mp4", layouts=layouts), job)
    frame = gray_frames(job.path("out.mp4"))[36]
    assert frame.shape == (640, 360)
    assert (made.files[0].width, made.files[0].height) == (360, 640)
    rows, columns = (frame > 200).nonzero()
    assert rows.min() > 540 and 120 < columns.min() < columns.max() < 240
    with av.open(str(job.path("out.mp4"))) as container:
        assert not next(container.decode(video=0)).rotation


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("odd", ("-s", "853x479", "-pix_fmt", "yuv444p"), (852, 478)),
        ("anamorphic", ("-vf", "setsar=4/3", "-pix_fmt", "yuv420p"), (852, 360)),
        ("full range", ("-pix_fmt", "yuvj420p", "-color_range", "pc"), (640, 360)),
    ],
)
async def test_unusual_pictures_become_ordinary_ones(
    name: str,
    options: tuple[str, ...],
    size: tuple[int, int],
    ffmpeg: FFmpeg,
    encoder: Encoder,
    job: JobContext,
    make: Callable[..., Path],
) -> None:
    put(job, make(f"{name}.mkv", *GREY, "-preset", "ultrafast", *options))
    await BurnOrMux(ffmpeg, encoder)(CaptionParams(video="in.mp4", output="out.mp4", layouts=(layout("x"),)), job)
    with av.open(str(job.path("out.mp4"))) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        assert (frame.width, frame.height, frame.format.name) == (*size, "yuv420p")
        assert stream.sample_aspect_ratio == 1
        assert frame.color_range == 1
        assert np.abs(frame.to_ndarray(format="gray").astype(int)[:200] - 0x60).mean() < 4


@pytest.mark.parametrize(
    ("primaries", "transfer"), [("bt2020", "smpte2084"), ("bt2020", "arib-std-b67"), ("unknown", "unknown")]
)
async def test_hdr_becomes_bt709(
    primaries: str, transfer: str, ffmpeg: FFmpeg, encoder: Encoder, job: JobContext, make: Callable[..., Path]
) -> None:
    short = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=24:d=0.5")
    hdr = f"format=yuv420p10le,setparams=colorspace=bt2020nc:color_primaries={primaries}:color_trc={transfer}:range=tv"
    put(job, make("hdr.mkv", *short, "-vf", hdr, "-c:v", "libx265", "-x265-params", "log-level=none"))
    await BurnOrMux(ffmpeg, encoder)(CaptionParams(video="in.mp4", output="out.mp4", layouts=(layout("x"),)), job)
    with av.open(str(job.path("out.mp4"))) as container:
        frame = next(container.decode(video=0))
        assert (frame.format.name, frame.colorspace, frame.color_primaries, frame.color_trc) == ("yuv420p", 1, 1, 1)


async def test_a_variable_frame_rate_keeps_its_times(
    ffmpeg: FFmpeg, encoder: Encoder, job: JobContext, make: Callable[..., Path]
) -> None:
    irregular = (
        "-vf",
        "settb=1/90000,setpts='(N*0.04+0.013*mod(N,3))/TB'",
        "-enc_time_base",
        "1:90000",
        "-fps_mode",
        "passthrough",
    )
    source = put(job, make("vfr.mp4", *GREY, *irregular, *FAST))
    await BurnOrMux(ffmpeg, encoder)(CaptionParams(video="in.mp4", output="out.mp4", layouts=(layout("x"),)), job)
    assert frame_times(job.path("out.mp4")) == pytest.approx(frame_times(source), abs=0.0005)


async def test_a_character_that_no_font_has_is_an_error(
    ffmpeg: FFmpeg, job: JobContext, make: Callable[..., Path]
) -> None:
    put(job, make("a.mp4", *GREY, *FAST))
    burn = BurnOrMux(ffmpeg, Encoder(ffmpeg), fonts=(bundled_folder(),))
    with pytest.raises(FontMissing, match="日"):
        await burn(CaptionParams(video="in.mp4", output="out.mp4", layouts=(layout("日本"),)), job)
    await burn(
        CaptionParams(video="in.mp4", output="out.mp4", layouts=(layout("C:\\\u2060New \u200bfine\ufe0f"),)), job
    )


async def test_a_machine_without_any_font_is_an_error(
    ffmpeg: FFmpeg, job: JobContext, make: Callable[..., Path]
) -> None:
    put(job, make("a.mp4", *GREY, *FAST))
    burn = BurnOrMux(ffmpeg, Encoder(ffmpeg), fonts=(job.folder / "nothing",))
    with pytest.raises(FontMissing, match="no fonts at all"):
        await burn(CaptionParams(video="in.mp4", output="out.mp4", layouts=(layout("words"),)), job)


async def test_fonts_inside_subtitles_are_not_loaded(
    bundled: FFmpeg, job: JobContext, make: Callable[..., Path]
) -> None:
    put(job, make("a.mp4", *GREY, *FAST))
    attached = "[Fonts]\nfontname: evil.ttf\n" + "!" * 80 + "\n"
    await BurnOrMux(bundled, Encoder(bundled))(
        CaptionParams(video="in.mp4", output="out.mp4", layouts=(layout("x", extra=attached),)), job
    )
    written = job.path("sub.ass").read_text(encoding="utf-8")
    assert "evil" not in written and "!!!" not in written and "Dialogue:" in written and "Style: Default" in written


async def test_a_soft_track_leaves_the_rest_untouched(
    ffmpeg: FFmpeg, encoder: Encoder, job: JobContext, make: Callable[..., Path]
) -> None:
    source = put(job, make("a.mp4", *GREY, *TONE, *FAST))
    srt = "1\n00:00:01,000 --> 00:00:02,000\nOlá, mundo\n"
    made = await BurnOrMux(ffmpeg, encoder)(
        CaptionParams(video="in.mp4", output="out.mp4", soft_srt=srt, language="pt-BR"), job
    )
    output = job.path("out.mp4")
    assert (made.encoder, made.files[0].frames) == ("copy", 72)
    assert packets(output) == packets(source)
    with av.open(str(output)) as container:
        track = container.streams.subtitles[0]
        assert (track.codec_context.name, track.metadata["language"]) == ("mov_text", "por")
        texts = [bytes(packet)[2:].decode() for packet in container.demux(track) if packet.size > 2]
        assert texts == ["Olá, mundo"]
    assert top_boxes(output).index("moov") < top_boxes(output).index("mdat")


async def test_a_soft_track_may_be_empty(ffmpeg: FFmpeg, job: JobContext, make: Callable[..., Path]) -> None:
    source = put(job, make("a.mp4", *GREY, *TONE, *FAST))
    await BurnOrMux(ffmpeg, Encoder(ffmpeg))(CaptionParams(video="in.mp4", output="out.mp4", soft_srt=""), job)
    assert packets(job.path("out.mp4")) == packets(source)


async def test_a_soft_track_on_a_codec_that_mp4_cannot_hold(
    ffmpeg: FFmpeg, encoder: Encoder, job: JobContext, make: Callable[..., Path]
) -> None:
    put(job, make("a.webm", *GREY, *TONE, "-t", "1", "-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libvorbis"))
    params = CaptionParams(video="in.mp4", output="out.mp4", soft_srt="1\n00:00:00,100 --> 00:00:00,900\nhi\n")
    made = await BurnOrMux(ffmpeg, encoder)(params, job)
    with av.open(str(job.path("out.mp4"))) as container:
        names = [stream.codec_context.name for stream in container.streams]
    assert names == ["h264", "mov_text", "aac"] and made.encoder == (await encoder.choose()).name


async def test_inputs_without_a_picture_are_named(bundled: FFmpeg, job: JobContext, make: Callable[..., Path]) -> None:
    burn = BurnOrMux(bundled, Encoder(bundled))
    put(job, make("a.mp3", *TONE))
    with pytest.raises(NoVideo):
        await burn(CaptionParams(video="in.mp4", output="out.mp4", layouts=(layout("x"),)), job)
    job.path("in.mp4").write_bytes(b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    with pytest.raises(MediaUnreadable):
        await burn(CaptionParams(video="in.mp4", output="out.mp4", layouts=(layout("x"),)), job)
