"""Still images of every common kind, as 8-bit RGB."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from manifests.errors import ImageTooLarge, ImageUnreadable

MAX_PIXELS = 100_000_000
MAX_BYTES = 512 * 2**20
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")
"""Decoders that read pixels and start no other program."""

Rgb = NDArray[np.uint8]
"""height x width x 3"""

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
"""What Pillow's decoders raise on files that are not what they claim."""


def load_rgb(path: Path, *, enough: tuple[int, int] | None = None) -> Rgb:
    """The picture in `path`, upright as its EXIF says, transparency laid over black; of an animation, the first frame.

    The whole file is decoded: one that is cut short is refused, not half shown. A JPEG may come back smaller, but never
    smaller than `enough` (width, height) in either orientation. Raises ImageUnreadable, or ImageTooLarge before any
    pixel is decoded; `where` is the file's name.
    """
    name = path.name
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _too_large(name, f"takes more than {MAX_BYTES // 2**20} MiB")
        with Image.open(path, formats=_available()) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _too_large(name, f"is {width}x{height}, more than {MAX_PIXELS // 10**6} million pixels")
            if enough and image.format in ("JPEG", "MPO"):
                image.draft(None, (max(enough), max(enough)))
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
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


def _to_rgb(image: Image.Image) -> Rgb:
    if image.mode.startswith("I") or image.mode == "F":
        grey = _eight_bits(np.asarray(image))
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return np.array(image.convert("RGB"))


def _eight_bits(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Deep greyscale, scaled by the depth its values use: Pillow's own conversion would clip it to white."""
    values = np.nan_to_num(grey.astype(np.float32), posinf=0.0, neginf=0.0)
    top = float(values.max(initial=0.0))
    full = next((depth for depth in (1.0, 255.0, 65535.0) if top <= depth), top)
    if grey.dtype == np.uint16:
        full = 65535.0
    elif grey.dtype.kind != "f":
        full = max(full, 255.0)
    return np.clip(values * (255.0 / full) + 0.5, 0, 255).astype(np.uint8)


def _too_large(name: str, why: str) -> ImageTooLarge:
    return ImageTooLarge(f"{name} {why}.", hint="Scale it down; 3840x2160 is plenty for a 1080p clip.", where=name)
