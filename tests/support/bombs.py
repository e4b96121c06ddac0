"""Small files that turn into large ones: what a hostile dropper sends to have a decoder take the machine's memory."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from support.media import Media

_BLOCK = 65_535
"""Samples in a FLAC frame, at most."""


def tiny_png(path: Path, width: int, height: int, colour: int = 6) -> Path:
    """A picture whose data end after its first row: decoders take what is missing for black."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    body = (
        chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(1 + width * {4: 2, 6: 4}[colour])))
        + chunk(b"IEND", b"")
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def silent_flac(path: Path, seconds: float, *, told_s: float, hertz: int = 8000) -> Path:
    """Silence of `seconds`, of which the file's head says that it is `told_s` long: some 14 bytes for eight seconds."""
    told = int(told_s * hertz)
    sizes = struct.pack(">HH", _BLOCK, _BLOCK) + bytes(6)
    packed = (hertz << 44) | (0 << 41) | (15 << 36) | told
    info = sizes + packed.to_bytes(8, "big") + bytes(16)
    frames = (_flac_frame(number) for number in range(int(seconds * hertz / _BLOCK) + 1))
    path.write_bytes(b"fLaC\x80\x00\x00\x22" + info + b"".join(frames))
    return path


def vast_mkv(path: Path, media: Media, side: int = 65_535) -> Path:
    """A small picture in a codec without dimensions of its own, in a container that says it is `side` wide and high."""
    made = media.make(".mkv", "-f", "lavfi", "-i", "color=size=300x300:rate=1:duration=1", "-c:v", "ffv1").read_bytes()
    small, vast = (number.to_bytes(2, "big") for number in (300, side))
    for field in (b"\xb0\x82", b"\xba\x82"):  # PixelWidth, PixelHeight, two bytes each
        assert made.count(field + small) == 1
        made = made.replace(field + small, field + vast)
    path.write_bytes(made)
    return path


def _flac_frame(number: int) -> bytes:
    """One channel of 16 bits, of one value."""
    head = b"\xff\xf8\x70\x08" + chr(number).encode("utf-8", "surrogatepass") + struct.pack(">H", _BLOCK - 1)
    frame = head + bytes([_crc(head, 8, 0x07)]) + b"\x00\x00\x00"
    return frame + struct.pack(">H", _crc(frame, 16, 0x8005))


def _crc(data: bytes, width: int, polynomial: int) -> int:
    value, top, mask = 0, 1 << (width - 1), (1 << width) - 1
    for byte in data:
        value ^= byte << (width - 8)
        for _ in range(8):
            value = ((value << 1) ^ polynomial if value & top else value << 1) & mask
    return value
