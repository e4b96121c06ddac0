"""img2vid: exact frames, a fixed centre, and every kind of still."""

from __future__ import annotations

import asyncio
import io
import random
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from PIL import Image
from video_oracle import gray_frames, luma, top_boxes

from gpu_dispatch.task import Clip, Img2VidParams, Progress
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.video.encoder import Encoder
from gpu_dispatch.worker.video.ffmpeg import FFmpeg
from gpu_dispatch.worker.video.image import load_rgb
from gpu_dispatch.worker.video.img2vid import ImagesToVideo
from gpu_dispatch.worker.video.zoom import Zoom, zoom_frames
from manifests.errors import ImageTooLarge, ImageUnreadable
from support.deadlines import HANG_S
from support.processes import Started


def dots(width: int, height: int, *centres: tuple[float, float]) -> Image.Image:
    """White discs on black, drawn smoothly; centres in pixels, the first pixel's middle being 0."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.zeros((height, width))
    for cx, cy in centres:
        picture += np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * (width / 80) ** 2))
    return Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8)).convert("RGB")


def centroid(plane: NDArray[np.uint8], box: tuple[slice, slice] = (slice(None), slice(None))) -> tuple[float, float]:
    weight = np.clip(plane[box].astype(float) - 20, 0, None)
    rows, columns = np.indices(weight.shape)
    offset = [part.start or 0 for part in box]
    return (
        float((weight * columns).sum() / weight.sum()) + offset[1],
        float((weight * rows).sum() / weight.sum()) + offset[0],
    )


async def test_two_full_hd_clips_have_the_frames_and_the_format_that_players_expect(
    ffmpeg: FFmpeg, encoder: Encoder, told: tuple[JobContext, list[Progress]]
) -> None:
    job, reports = told
    dots(1600, 1000, (799.5, 499.5)).save(job.path("a.jpg"), quality=95)
    clips = (Clip("a.jpg", "v1.mp4", 156), Clip("a.jpg", "v2.mp4", 120))
    made = await ImagesToVideo(ffmpeg, encoder)(Img2VidParams(clips=clips), job)
    assert made.encoder == (await encoder.choose()).name
    for clip, file in zip(clips, made.files, strict=True):
        path = job.path(clip.output)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            frames = list(container.decode(stream))
            assert (file.name, file.frames, file.size) == (clip.output, clip.frames, path.stat().st_size)
            assert len(frames) == clip.frames
            assert (context.width, context.height, context.pix_fmt) == (1920, 1080, "yuv420p")
            assert stream.sample_aspect_ratio == 1
            assert {frames[0].colorspace, frames[0].color_range} == {1}
            assert (frames[0].color_primaries, frames[0].color_trc) == (1, 1)
            assert float(stream.duration * stream.time_base) == pytest.approx(clip.frames / 24)
        tracked = np.array([centroid(luma(frame)) for frame in frames[::12]])
        assert np.abs(tracked - [959.5, 539.5]).max() < 0.3
        assert top_boxes(path).index("moov") < top_boxes(path).index("mdat")
    assert reports[-1].percent == 100
    assert [r.percent for r in reports] == sorted(r.percent for r in reports)


def test_a_dot_moves_as_the_zoom_says_without_jitter() -> None:
    """Off the centre, in raw frames: the position within 0.1 px of the ideal, frame to frame within 0.1 px."""
    zoom = Zoom(1.0, 1.324, 120)
    picture = np.asarray(dots(960, 540, (700.0, 150.0)))
    middle = np.array([479.5, 269.5])
    off: list[NDArray[np.float64]] = []
    for index, frame in enumerate(zoom_frames(picture, 960, 540, zoom)):
        ideal = middle + (np.array([700.0, 150.0]) - middle) * zoom.at(index)
        off.append(np.array(centroid(frame[: 960 * 540].reshape(540, 960))) - ideal)
    errors = np.array(off)
    assert np.sqrt((errors**2).mean()) < 0.05
    assert np.abs(np.diff(errors, axis=0)).max() < 0.1


def test_chroma_moves_with_luma() -> None:
    picture = np.zeros((270, 480, 3), np.uint8)
    picture[100:140, 300:340] = (255, 0, 0)
    for frame in zoom_frames(picture, 480, 270 // 2 * 2, Zoom(1.0, 2.0, 3)):
        last = frame
    y = last[: 480 * 270].reshape(270, 480)
    cr = last[480 * 270 * 5 // 4 :].reshape(135, 240)
    luma_at = np.array(centroid(np.clip(y.astype(int), 16, 255).astype(np.uint8)))
    chroma_at = np.array(centroid((cr.clip(128) - 128) * 2))
    assert chroma_at * 2 + [0.0, 0.5] == pytest.approx(luma_at, abs=0.15)


@pytest.mark.parametrize(("width", "height"), [(2000, 500), (500, 2000)])
async def test_other_shapes_fill_the_frame_and_keep_circles_round(
    bundled: FFmpeg, job: JobContext, width: int, height: int
) -> None:
    dots(width, height, (width / 2 - 0.5, height / 2 - 0.5)).point(lambda v: 255 if v > 100 else 60).save(
        job.path("a.png")
    )
    params = Img2VidParams(clips=(Clip("a.png", "v.mp4", 2),), width=320, height=180, zoom_to=1.0)
    await ImagesToVideo(bundled, Encoder(bundled))(params, job)
    frame = gray_frames(job.path("v.mp4"))[0]
    assert frame.min() > 40
    disc = frame > 150
    across, down = disc.any(axis=0).sum(), disc.any(axis=1).sum()
    assert abs(int(across) - int(down)) <= 2


def reference_pixels(name: str, folder: Path) -> Path:
    """One picture, left half dark and right half bright, in the way `name` tells."""
    grey = np.zeros((40, 80), np.uint16)
    grey[:, :40], grey[:, 40:] = 16000, 48000
    eight = Image.fromarray((grey // 257).astype(np.uint8))
    path = folder / f"{name}.png"
    match name:
        case "16 bit":
            Image.fromarray(grey).save(path)
        case "greyscale":
            eight.save(path)
        case "palette":
            eight.convert("RGB").quantize(8).save(path)
        case "CMYK":
            eight.convert("CMYK").save(path := path.with_suffix(".jpg"), quality=95)
        case "animation":
            path = path.with_suffix(".gif")
            eight.convert("RGB").save(path, save_all=True, append_images=[Image.new("RGB", (80, 40), "white")])
        case "EXIF rotation":
            turned = eight.convert("RGB").transpose(Image.Transpose.ROTATE_90)
            exif = Image.Exif()
            exif[0x0112] = 6
            turned.save(path := path.with_suffix(".jpg"), exif=exif, quality=95)
        case "alpha over black":
            white = Image.new("RGBA", (80, 40), (255, 255, 255, 62))
            white.paste((255, 255, 255, 187), (40, 0, 80, 40))
            white.save(path)
        case _:
            raise AssertionError(name)
    return path


@pytest.mark.parametrize(
    "name", ["16 bit", "greyscale", "palette", "CMYK", "animation", "EXIF rotation", "alpha over black"]
)
def test_every_kind_of_still_looks_the_same(name: str, tmp_path: Path) -> None:
    picture = load_rgb(reference_pixels(name, tmp_path))
    assert picture.shape == (40, 80, 3)
    assert np.abs(picture[:, 4:36].astype(int) - 62).max() <= 4
    assert np.abs(picture[:, 44:76].astype(int) - 187).max() <= 4


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
def test_an_image_that_is_cut_short_is_refused(suffix: str, kept: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    path = tmp_path / f"whole.{suffix}"
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageUnreadable) as caught:
        load_rgb(cut, enough=(320, 180))
    assert caught.value.info.where == cut.name
    assert str(tmp_path) not in caught.value.info.message


@pytest.mark.filterwarnings("ignore")  # Pillow remarks on much of what it then reads
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_a_damaged_image_is_shown_or_refused_and_nothing_else(kind: str, tmp_path: Path) -> None:
    dice = random.Random(kind)
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = io.BytesIO()
    Image.effect_noise((60, 40), 50).convert("RGB").save(whole, kind, exif=exif)
    refused = 0
    for _ in range(150):
        data = bytearray(whole.getvalue())
        for _ in range(dice.choice((1, 3, 10))):
            data[dice.randrange(min(len(data), dice.choice((40, 300, 10_000))))] = dice.randrange(256)
        (tmp_path / "a.bin").write_bytes(data)
        try:
            assert load_rgb(tmp_path / "a.bin").shape[2] == 3
        except (ImageUnreadable, ImageTooLarge):
            refused += 1
    assert refused


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (30_000, 30_000)).save(path)
    before = psutil.Process().memory_info().rss
    with pytest.raises(ImageTooLarge) as caught:
        load_rgb(path)
    assert caught.value.info.where == "huge.png"
    assert psutil.Process().memory_info().rss - before < 50 * 2**20


@pytest.mark.parametrize("content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg/>"])
async def test_what_is_no_image_is_named(content: bytes, bundled: FFmpeg, job: JobContext) -> None:
    dots(64, 64, (31.5, 31.5)).save(job.path("good.png"))
    job.path("bad.png").write_bytes(content)
    clips = (Clip("good.png", "v1.mp4", 3), Clip("bad.png", "v2.mp4", 3))
    with pytest.raises(ImageUnreadable) as caught:
        await ImagesToVideo(bundled, Encoder(bundled))(Img2VidParams(clips=clips, width=128, height=72), job)
    assert caught.value.info.where == "bad.png"


async def test_cancelling_leaves_no_process(
    started: Started, ffmpeg: FFmpeg, encoder: Encoder, told: tuple[JobContext, list[Progress]]
) -> None:
    job, reports = told
    dots(640, 360, (320, 180)).save(job.path("a.png"))
    clips = tuple(Clip("a.png", f"v{i}.mp4", 200_000) for i in range(3))
    work = asyncio.create_task(ImagesToVideo(ffmpeg, encoder)(Img2VidParams(clips=clips, width=320, height=180), job))
    async with asyncio.timeout(HANG_S):
        while not reports:
            await asyncio.sleep(0.02)
    assert started()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert started() == []
