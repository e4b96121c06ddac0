"""Renders a slow zoom into the centre of a still as planes of 8-bit 4:2:0 video.

The picture is converted once to three planes, each at twice its size on screen at zoom 1. A frame is one bilinear
resampling of each plane. cv2.resize is three to four times faster than cv2.warpAffine but starts at whole source pixels
only, so it starts up to `LEAD_IN` output pixels early, where source and output grids agree within `TOLERANCE`;
warpAffine renders the frames without such a start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from gpu_dispatch.worker.video.image import Rgb

OVERSAMPLING = 2
LEAD_IN = 48
TOLERANCE = 0.02
"""Output pixels."""

_BT709 = np.array(
    [
        [0.2126 * 219 / 255, 0.7152 * 219 / 255, 0.0722 * 219 / 255, 16.0],
        [-0.2126 / 1.8556 * 224 / 255, -0.7152 / 1.8556 * 224 / 255, 0.5 * 224 / 255, 128.0],
        [0.5 * 224 / 255, -0.7152 / 1.5748 * 224 / 255, -0.0722 / 1.5748 * 224 / 255, 128.0],
    ]
)
"""RGB to Y, Cb, Cr of ITU-R BT.709 in limited range."""

Plane = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Zoom:
    """A zoom from `start` to `end`, both included, in equal steps over `frames` frames."""

    start: float
    end: float
    frames: int

    def at(self, frame: int) -> float:
        return self.start + (self.end - self.start) * frame / max(1, self.frames - 1)


def zoom_frames(picture: Rgb, width: int, height: int, zoom: Zoom) -> Iterator[Plane]:
    """Yields the clip's frames as yuv420p: Y, Cb and Cr planes in one flat buffer, which is reused for every frame.

    Width and height are even. The picture covers the frame; the excess is cropped evenly.
    """
    cv2.setNumThreads(1)
    planes = _planes(_cover(picture, width, height), width, height)
    del picture
    frame = np.empty(height * width * 3 // 2, np.uint8)
    parts = np.split(frame, [height * width, height * width * 5 // 4])
    views = [part.reshape(plane.height, plane.width) for part, plane in zip(parts, planes, strict=True)]
    for index in range(zoom.frames):
        for view, plane in zip(views, planes, strict=True):
            view[...] = plane.at(zoom.at(index))
        yield frame


def source_size(width: int, height: int) -> tuple[int, int]:
    """Returns the size that the picture is scaled to before it is resampled."""
    return width * OVERSAMPLING, height * OVERSAMPLING


def _cover(picture: Rgb, width: int, height: int) -> Rgb:
    """Crops `picture` around its middle to the aspect ratio of width x height."""
    rows, columns = picture.shape[:2]
    wanted_columns = min(columns, max(1, round(rows * width / height)))
    wanted_rows = min(rows, max(1, round(columns * height / width)))
    left, top = (columns - wanted_columns) // 2, (rows - wanted_rows) // 2
    return picture[top : top + wanted_rows, left : left + wanted_columns]


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of a plane. Output sample j lies at luma pixel `step` * j + `first`."""

    length: int
    """Luma pixels of the frame."""
    step: int
    first: float
    scale: float
    """Source pixels per luma pixel at zoom 1."""
    border: int
    """Source pixels of padding."""

    def at(self, zoom: float) -> tuple[float, float]:
        """Returns (a, b): output sample j shows the source at a * j + b. The frame's middle is fixed."""
        middle = (self.length - 1) / 2
        start = middle + (self.first - middle) / zoom
        return self.step * self.scale / zoom, (start + 0.5) * self.scale - 0.5 + self.border

    def lead_in(self, a: float, b: float) -> tuple[int, int, float]:
        """Returns (origin, lead, error): cv2.resize from source pixel `origin` puts sample j at output `j + lead`,
        `error` output pixels off."""
        leads = np.arange(LEAD_IN)
        origins = b - (leads + 0.5) * a + 0.5
        errors = np.abs(origins - np.rint(origins))
        best = int(errors.argmin())
        return round(float(origins[best])), best, float(errors[best]) / a


@dataclass(frozen=True, slots=True)
class _SourceImage:
    """A padded plane at its source size, with the size of its output and both axes."""

    pixels: Plane
    width: int
    height: int
    x: _Axis
    y: _Axis

    def at(self, zoom: float) -> Plane:
        (ax, bx), (ay, by) = self.x.at(zoom), self.y.at(zoom)
        left, lead_x, error_x = self.x.lead_in(ax, bx)
        top, lead_y, error_y = self.y.lead_in(ay, by)
        if max(error_x, error_y) > TOLERANCE:
            matrix = np.array([[ax, 0.0, bx], [0.0, ay, by]])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            return cast(Plane, cv2.warpAffine(self.pixels, matrix, (self.width, self.height), flags=flags))
        right = left + math.ceil((self.width + lead_x) * ax) + 2
        bottom = top + math.ceil((self.height + lead_y) * ay) + 2
        looked_up = cv2.resize(
            self.pixels[top:bottom, left:right], None, fx=1 / ax, fy=1 / ay, interpolation=cv2.INTER_LINEAR
        )
        return cast(Plane, looked_up[lead_y : lead_y + self.height, lead_x : lead_x + self.width])


def _planes(picture: Rgb, width: int, height: int) -> tuple[_SourceImage, _SourceImage, _SourceImage]:
    luma, cb, cr = cv2.split(cv2.transform(_resized(picture, *source_size(width, height)), _BT709))
    return (
        _source(cast(Plane, luma), width, height, chroma=False),
        _source(_halved(cast(Plane, cb)), width, height, chroma=True),
        _source(_halved(cast(Plane, cr)), width, height, chroma=True),
    )


def _source(pixels: Plane, width: int, height: int, *, chroma: bool) -> _SourceImage:
    """Pads a plane; H.264's chroma samples lie on every second luma column and between every two luma rows."""
    step = 2 if chroma else 1
    rows, columns = pixels.shape
    border = math.ceil(LEAD_IN * step * max(columns / width, rows / height)) + 8
    padded = cv2.copyMakeBorder(pixels, border, border, border, border, cv2.BORDER_REPLICATE)
    x = _Axis(width, step, 0.0, columns / width, border)
    y = _Axis(height, step, 0.5 if chroma else 0.0, rows / height, border)
    return _SourceImage(cast(Plane, padded), width // step, height // step, x, y)


def _halved(pixels: Plane) -> Plane:
    rows, columns = pixels.shape
    return cast(Plane, cv2.resize(pixels, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA))


def _resized(picture: Rgb, width: int, height: int) -> Rgb:
    shrinks = width < picture.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cast(Rgb, cv2.resize(picture, (width, height), interpolation=how))
