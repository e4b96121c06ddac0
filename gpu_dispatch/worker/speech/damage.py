"""Finds out where a recording is cut off or damaged, from what ffmpeg says of it and from the file's end."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_dispatch.worker.speech.waves import wave_length
from gpu_dispatch.worker.video.ffmpeg import FFmpeg

EDGE_S = 1.0
"""Complaints this near to the start or the end are no damage: a broadcast is joined midway, a file ends in tags."""
MISSING_S = 1.0
"""Fewer seconds less than the file promises are rounding, or padding of its codec."""
PLACE_S = 2.0
"""Complaints closer together are of one place."""

_CUT = re.compile(r"Packet corrupt|corrupt input packet|[Ff]ile ended prematurely|partial file|Input/output error"
                  r"|Error during demuxing|[Tt]runcated")  # fmt: skip
_ERROR = re.compile(r"^(?:\[[^\]]* @ 0x[0-9a-f]+\] )*\[(?:error|fatal)\] ")
_OUTPUT = re.compile(r"non monotonically increasing dts|non-monotonic DTS|Error muxing")
_MOMENT = re.compile(r"Parsed_ashowinfo.* pts_time:(-?[\d.]+)")


class Complaints:
    """Notes what ffmpeg says of its input while it decodes, one line of standard error at a time."""

    def __init__(self) -> None:
        self.cut = False
        """Whether it said that the file ends too early."""
        self.any = False

    def __call__(self, line: str) -> None:
        cut = bool(_CUT.search(line))
        self.cut = self.cut or cut
        self.any = self.any or cut or is_complaint(line)


def is_complaint(line: str) -> bool:
    return bool(_ERROR.match(line)) and not _OUTPUT.search(line)


@dataclass(frozen=True, slots=True)
class Promise:
    """What the file says of its own length."""

    seconds: float = 0.0
    """0.0 when it says nothing, or nothing of this track."""
    broken: bool = False
    """Whether its end is not one that a finished file of its kind has."""
    open_end: bool = False
    """Whether it was written as a stream, so that ffmpeg misses an end which nobody promised."""


def promise_of(path: Path, duration: float, container: frozenset[str]) -> Promise:
    """Reads what `path` promises; `duration` is its container's, 0.0 where that is not the sound's own."""
    if "wav" in container and (length := wave_length(path)):
        return Promise(length.seconds, open_end=True)
    if "ogg" in container:
        return Promise(duration, broken=not _ogg_ends(path))
    if container & {"mpegts", "mpeg"}:
        return Promise(broken="mpegts" in container and not _packets_end(path))
    return Promise(duration, open_end="caf" in container and _is_open_caf(path))


def cut_at(heard: float, promise: Promise, complaints: Complaints) -> str:
    """Returns the warning that the sound ends at `heard` seconds before it should; "" when it does not."""
    missing = promise.seconds - heard
    if missing >= max(MISSING_S, 0.01 * promise.seconds):
        return f"The recording is cut off: its sound ends at {heard:.1f} s of {promise.seconds:.1f} s."
    if promise.broken or (complaints.cut and not promise.open_end):
        return f"The recording is cut off: its sound ends at {heard:.1f} s."
    return ""


async def damaged_places(
    ffmpeg: FFmpeg, source: Sequence[str], output: Sequence[str], heard: float, *, cut: bool
) -> list[float]:
    """Decodes once more, with the moment of every frame, and returns where ffmpeg complained, in seconds.

    `source` opens the file, `output` takes the track. What is near the start, or the end at `heard`, is left out, and
    so is what belongs to the end of a file that ffmpeg finds `cut`: it reads ahead and says so early.
    """
    places: list[float] = []
    now = 0.0

    def read(line: str) -> None:
        nonlocal now
        if moment := _MOMENT.search(line):
            now = float(moment[1])
            return
        told = not cut if _CUT.search(line) else is_complaint(line)
        if told and EDGE_S <= now <= heard - EDGE_S * (4 if cut else 1) and (not places or now - places[-1] >= PLACE_S):
            places.append(now)

    listing = ["-loglevel", "level+info", *source, *output, "-af", "ashowinfo", "-c:a", "pcm_s16le", "-f", "null", "-"]
    await ffmpeg.read_bytes(listing, on_bytes=lambda _: None, on_stderr=read)
    return places


def damage_warning(places: Sequence[float]) -> str:
    if not places:
        return ""
    others = {1: "", 2: " and at another place"}.get(len(places), f" and at {len(places) - 1} other places")
    return f"The recording is damaged at {places[0]:.1f} s{others}: what is said there may be missing."


_TAIL = 1 << 17
_END_OF_STREAM = 0x04
_PACKET = {188: 0, 192: 4, 204: 0}
"""Sizes of a transport stream's packets, each with the place of its mark 0x47."""


def _ogg_ends(path: Path) -> bool:
    """Returns whether the last page of an Ogg file is whole, and marked as its stream's last."""
    data = _tail(path)
    at = data.rfind(b"OggS")
    if at < 0 or at + 27 > len(data) or not data[at + 5] & _END_OF_STREAM:
        return False
    lacing = data[at + 27 : at + 27 + data[at + 26]]
    return len(lacing) == data[at + 26] and at + 27 + len(lacing) + sum(lacing) <= len(data)


def _packets_end(path: Path) -> bool:
    """Returns whether a transport stream ends with a whole packet; True where its packets are not recognised."""
    with path.open("rb") as file:
        head = file.read(204 * 8)
    for size, mark in _PACKET.items():
        if len(head) >= size * 4 and all(head[mark + n * size] == 0x47 for n in range(4)):
            return path.stat().st_size % size == 0
    return True


def _is_open_caf(path: Path) -> bool:
    """Returns whether the samples of a CAF file go on to its end, which is what a stream has in place of their size."""
    with path.open("rb") as file:
        file.seek(8)
        for _ in range(100):
            head = file.read(12)
            if len(head) < 12:
                return False
            name, size = struct.unpack(">4sq", head)
            if name == b"data" or size < 0:
                return size == -1
            file.seek(size, 1)
    return False


def _tail(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL))
        return file.read()
