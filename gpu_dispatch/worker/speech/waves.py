"""WAVE's header: read from the start of a stream, and of a file whose header may not tell its length."""

from __future__ import annotations

import string
import struct
from dataclasses import dataclass
from pathlib import Path

HEADER_BYTES = 1 << 16
"""Most bytes before the samples that are searched for them; a recorder's notes may take some kilobytes."""

_UNTOLD = 0x7FFF_0000
"""A size from here on is a place holder: streams have FFFFFFFF, 7FFFFFFF or 80000000, some less their header's."""
_PRINTABLE = frozenset((string.ascii_letters + string.digits + " _-").encode())


@dataclass(frozen=True, slots=True)
class WaveHeader:
    channels: int
    speakers: int
    """Bits of WAVE's channel mask; 0 when the header names none."""
    bytes_a_second: int
    start: int
    """Where the samples begin, in bytes."""
    size: int
    """Of the samples in bytes, as the header has it."""


def wave_header(data: bytes) -> WaveHeader | None:
    """Parses the header that `data` begins with; None while it is not complete, or is none."""
    if data[:4] not in (b"RIFF", b"RF64") or data[8:12] != b"WAVE":
        return None
    at, channels, speakers, rate = 12, 0, 0, 0
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        body = at + 8
        if name == b"data":
            return WaveHeader(channels, speakers, rate, body, size) if channels else None
        if name == b"fmt " and body + 16 <= len(data):
            _, channels, _, rate = struct.unpack_from("<HHII", data, body)
            if size >= 40 and body + 24 <= len(data):
                speakers = struct.unpack_from("<I", data, body + 20)[0]
        at = body + size + size % 2
    return None


@dataclass(frozen=True, slots=True)
class WaveLength:
    """What a WAVE file's header tells of its length."""

    believed: bool
    """False: the header has a place holder, or the samples go on behind what it says."""
    seconds: float = 0.0
    """Of sound, as the header has it, where the file is shorter; 0.0 where nothing is missing."""


def wave_length(path: Path) -> WaveLength | None:
    """Reads the header of the file `path`; None when it is no WAVE file with samples."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
        header = wave_header(head)
        if header is None:
            return None
        if head[:4] == b"RF64":  # its size stands elsewhere, and ffmpeg knows where
            return WaveLength(believed=True)
        if header.size == 0 or header.size >= _UNTOLD or not header.bytes_a_second:
            return WaveLength(believed=False)
        left = path.stat().st_size - header.start - header.size
        file.seek(header.start + header.size + header.size % 2)
        if left > 0 and not _continues(file.read(8), left):
            return WaveLength(believed=False)
    return WaveLength(True, header.size / header.bytes_a_second if left < 0 else 0.0)


def _continues(found: bytes, left: int) -> bool:
    """Returns whether what stands behind the samples may be a further chunk, or padding."""
    if len(found) < 8:
        return True
    name, size = struct.unpack("<4sI", found)
    return (_PRINTABLE.issuperset(name) and size <= left) or not any(found)
