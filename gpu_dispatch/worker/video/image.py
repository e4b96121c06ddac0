"""Decodes still images of every common format to 8-bit RGB."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests.errors import ImageTooLarge, ImageUnreadable

MAX_PIXELS = 100_000_000
MAX_HEAVY_PIXELS = 64_000_000
HEAVY = frozenset({"WEBP", "AVIF", "JPEG2000"})
"""Formats whose decoders hold several copies of a picture; they are limited to MAX_HEAVY_PIXELS."""
MAX_BYTES = 512 * 2**20
LARGE_PIXELS = 25_000_000
"""Larger pictures are decoded one at a time: 100 million pixels take 400 MB, and clips are made concurrently."""
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")
"""Formats whose decoders start no other program."""

Rgb = NDArray[np.uint8]
"""height x width x 3"""

_BAND_PIXELS = 4_000_000
"""Pixels converted at a time, so that a large picture is in memory once and not once for every step."""
_ONE_LARGE = threading.Lock()
_ORIENTATION = 0x0112

_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,
    EOFError,
    IndexError,
    TypeError,
    KeyError,
    OverflowError,
    struct.error,
)
"""What Pillow's decoders raise for damaged or mislabelled files."""


def load_rgb(path: Path, *, enough: tuple[int, int] | None = None) -> Rgb:
    """Decodes the picture, or an animation's first frame, upright by its EXIF, with transparency over black.

    The whole file is decoded: a truncated one is refused. The result may be reduced, but not below `enough` (width,
    height) in either orientation. Raises ImageUnreadable, or ImageTooLarge before any pixel is decoded; `where` is the
    file's name.
    """
    name = path.name
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _too_large(name, f"takes more than {MAX_BYTES // 2**20} MiB")
        with Image.open(path, formats=_available()) as image:
            width, height = image.size
            most = MAX_HEAVY_PIXELS if image.format in HEAVY else MAX_PIXELS
            if width * height > most:
                raise _too_large(name, f"is {width}x{height}, more than {most // 10**6} million pixels")
            with _large_picture_lock(width * height):
                if enough and image.format in ("JPEG", "MPO"):
                    image.draft(None, (max(enough), max(enough)))
                image.load()
                side = max(enough) if enough else max(width, height)
                return _upright(_to_rgb(image, max(1, min(image.size) // side)), image.getexif().get(_ORIENTATION, 1))
    except Image.DecompressionBombError as e:
        raise _too_large(name, f"has more than {MAX_PIXELS // 10**6} million pixels") from e
    except _BROKEN as e:
        raise ImageUnreadable(
            f"{name} cannot be read as an image: {e or type(e).__name__}.".replace(str(path), name),
            hint="Check that the image opens and is complete; save it as JPEG, PNG or WebP.",
            where=name,
        ) from e


def _available() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _large_picture_lock(pixels: int) -> AbstractContextManager[object]:
    return _ONE_LARGE if pixels >= LARGE_PIXELS else nullcontext()


def _to_rgb(image: Image.Image, shrink: int) -> Rgb:
    """Converts `image` band by band, each side divided by `shrink` and rounded up."""
    width, height = (-(-side // shrink) for side in image.size)
    rgb = np.empty((height, width, 3), np.uint8)
    deep = image.mode.startswith("I") or image.mode == "F"
    full = _full(image) if deep else 0.0
    row = 0
    for band in _bands(image, shrink):
        plain = Image.fromarray(_eight_bits(np.asarray(band), full)) if deep else _over_black(band)
        reduced = np.asarray(plain.reduce(shrink) if shrink > 1 else plain)
        rgb[row : row + len(reduced)] = reduced[:, :, None] if deep else reduced
        row += len(reduced)
    return rgb


def _bands(image: Image.Image, shrink: int) -> Iterator[Image.Image]:
    """Yields the bands of `image` from top to bottom; all but the last are a multiple of `shrink` high."""
    width, height = image.size
    rows = max(1, _BAND_PIXELS // (width * shrink)) * shrink
    for top in range(0, height, rows):
        yield image.crop((0, top, width, min(top + rows, height)))


def _over_black(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("RGB")


def _full(image: Image.Image) -> float:
    """Returns the value of white: deep greyscale is scaled by the depth that its values use."""
    if image.mode.startswith("I;16"):
        return 65535.0
    top = max(float(_finite(np.asarray(band)).max(initial=0.0)) for band in _bands(image, 1))
    full = next((depth for depth in (1.0, 255.0, 65535.0) if top <= depth), top)
    return full if image.mode == "F" else max(full, 255.0)


def _finite(grey: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.nan_to_num(grey.astype(np.float32), posinf=0.0, neginf=0.0)


def _eight_bits(grey: NDArray[np.generic], full: float) -> NDArray[np.uint8]:
    """Scales greyscale to 8 bits; Pillow's own conversion would clip deep greyscale to white."""
    return np.clip(_finite(grey) * (255.0 / full) + 0.5, 0, 255).astype(np.uint8)


def _upright(rgb: Rgb, orientation: int) -> Rgb:
    """Turns `rgb` upright by EXIF's `orientation` (1-8); another value changes nothing."""
    match orientation:
        case 2:
            turned = rgb[:, ::-1]
        case 3:
            turned = rgb[::-1, ::-1]
        case 4:
            turned = rgb[::-1]
        case 5:
            turned = rgb.swapaxes(0, 1)
        case 6:
            turned = np.rot90(rgb, 3)
        case 7:
            turned = rgb[::-1, ::-1].swapaxes(0, 1)
        case 8:
            turned = np.rot90(rgb)
        case _:
            turned = rgb
    return np.ascontiguousarray(turned)


def _too_large(name: str, why: str) -> ImageTooLarge:
    return ImageTooLarge(f"{name} {why}.", hint="Scale it down; 3840x2160 is plenty for a 1080p clip.", where=name)
