"""Looking at finished media with PyAV, which shares no code with the worker's own probing."""

from __future__ import annotations

import zlib
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

BUNDLED = imageio_ffmpeg.get_ffmpeg_exe()
"""The ffmpeg that is always there."""


def gray_frames(path: Path) -> list[NDArray[np.uint8]]:
    """Luma planes of every frame that is shown, upright or not as they are stored."""
    with av.open(str(path)) as container:
        return [luma(frame) for frame in container.decode(video=0)]


def luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size)
    return rows[:, : frame.width].copy()


def frame_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def packets(path: Path) -> list[int]:
    """A checksum of each packet of the video track, in the file's order."""
    with av.open(str(path)) as container:
        return [zlib.crc32(bytes(packet)) for packet in container.demux(video=0) if packet.size]


def samples(path: Path) -> tuple[NDArray[np.float32], int]:
    """The first audio track, mixed to one channel, and its rate."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono")
        parts = [out.to_ndarray()[0] for frame in container.decode(stream) for out in resampler.resample(frame)]
        return np.concatenate(parts), stream.rate


def top_boxes(path: Path) -> list[str]:
    """Names of an MP4's outermost boxes, in order."""
    data, offset, names = path.read_bytes(), 0, []
    while offset + 8 <= len(data):
        size = int.from_bytes(data[offset : offset + 4])
        names.append(data[offset + 4 : offset + 8].decode("latin-1"))
        offset += int.from_bytes(data[offset + 8 : offset + 16]) if size == 1 else max(8, size)
    return names
