"""Sets the end of a copied video track exact to a frame, in the MP4 file's edit list.

Copied frames can be cut in decoding order only, so a few frames after the wanted end must stay, as others refer to
them. The track's edit list says where playback ends; ffmpeg's muxer has no option for it, so the file is edited
afterwards.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAX_INDEX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class _Box:
    """An MP4 box in the buffer."""

    kind: bytes
    start: int
    """Offset of its content."""
    end: int
    """Offset behind its content."""


def end_video_at(path: Path, seconds: float) -> None:
    """Ends the video track of the MP4 file `path` at `seconds`; a track that ends earlier is unchanged.

    Raises ValueError when the file's index is none that ffmpeg's mp4 muxer writes; the file is unchanged then.
    """
    with path.open("r+b") as file:
        offset, size = _find_index(file)
        file.seek(offset)
        index = bytearray(file.read(size))
        try:
            _shorten(index, seconds)
        except (LookupError, struct.error) as e:
            raise ValueError("a broken MP4 index") from e
        file.seek(offset)
        file.write(index)


def _find_index(file: BinaryIO) -> tuple[int, int]:
    offset = 0
    while len(header := file.read(16)) >= 8:
        size, kind = struct.unpack_from(">I4s", header)
        if size == 1 and len(header) == 16:
            size = struct.unpack_from(">Q", header, 8)[0]
        if kind == b"moov" and 8 <= size <= MAX_INDEX_BYTES:
            return offset + 8, size - 8
        if size < 8:
            break
        offset += size
        file.seek(offset)
    raise ValueError("no MP4 index")


def _shorten(index: bytearray, seconds: float) -> None:
    boxes = {box.kind: box for box in _children(index, 0, len(index))}
    movie = boxes[b"mvhd"]
    scale_at, length_at, wide = _header_fields(index, movie, version0=(12, 16), version1=(20, 24))
    # Rounds down: a frame that begins within the last tick must not be shown.
    length = int(seconds * struct.unpack_from(">I", index, scale_at)[0] + 1e-6)
    lengths = [_shorten_track(index, box, length) for box in _children(index, 0, len(index)) if box.kind == b"trak"]
    _put(index, length_at, wide, max(lengths, default=length))


def _shorten_track(index: bytearray, track: _Box, length: int) -> int:
    """Shortens a video track to `length`; returns any track's resulting length. Lengths are in the movie's ticks."""
    inside = {box.kind: box for box in _children(index, track.start, track.end)}
    _, length_at, wide = _header_fields(index, inside[b"tkhd"], version0=(0, 20), version1=(0, 28))
    now = _get(index, length_at, wide)
    media = {box.kind: box for box in _children(index, inside[b"mdia"].start, inside[b"mdia"].end)}
    handler = media[b"hdlr"]
    if bytes(index[handler.start + 8 : handler.start + 12]) != b"vide" or b"edts" not in inside:
        return now
    edits = {box.kind: box for box in _children(index, inside[b"edts"].start, inside[b"edts"].end)}[b"elst"]
    before = 0
    for at, entry_wide in _edits(index, edits):
        lasts = _get(index, at, entry_wide)
        _put(index, at, entry_wide, min(lasts, max(0, length - before)))
        before += lasts
    _put(index, length_at, wide, min(now, length))
    return min(now, length)


def _edits(index: bytearray, edits: _Box) -> Iterator[tuple[int, bool]]:
    """Yields the offset of each edit's duration and whether it takes 8 bytes."""
    wide = index[edits.start] == 1
    count = struct.unpack_from(">I", index, edits.start + 4)[0]
    step = 20 if wide else 12
    for number in range(count):
        yield edits.start + 8 + number * step, wide


def _children(index: bytearray, start: int, end: int) -> Iterator[_Box]:
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", index, start)
        if size < 8 or start + size > end:
            raise ValueError("a broken MP4 index")
        yield _Box(kind, start + 8, start + size)
        start += size


def _header_fields(
    index: bytearray, box: _Box, *, version0: tuple[int, int], version1: tuple[int, int]
) -> tuple[int, int, bool]:
    wide = index[box.start] == 1
    scale, length = version1 if wide else version0
    return box.start + scale, box.start + length, wide


def _get(index: bytearray, at: int, wide: bool) -> int:
    return struct.unpack_from(">Q" if wide else ">I", index, at)[0]


def _put(index: bytearray, at: int, wide: bool, value: int) -> None:
    struct.pack_into(">Q" if wide else ">I", index, at, value)
