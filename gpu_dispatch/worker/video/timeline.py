"""How long tracks really are. Containers round, guess, or say nothing; packets and samples do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpu_dispatch.worker.video.failure import media_unreadable
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, untrusted_input
from manifests.errors import InputTooLarge

MAX_FRAMES = 10_000_000
"""A day at 115 frames a second."""
MAX_SOUND_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """`starts`: when each frame is shown, in order; `end`: when the last one ends. Seconds from the file's start."""

    starts: tuple[float, ...]
    end: float

    def frames_until(self, seconds: float) -> int:
        """Frames that begin before `seconds` when the track is played again and again."""
        rounds, rest = divmod(max(0.0, seconds), self.end)
        return int(rounds) * len(self.starts) + sum(start < rest - 1e-6 for start in self.starts)


async def video_timeline(ffmpeg: FFmpeg, path: Path) -> Timeline:
    """Of the first video track, by reading its packets without decoding. Raises MediaUnreadable when it has none."""
    reader = _PacketReader(path.name)
    await ffmpeg.read_lines(
        [*untrusted_input(path), "-map", "0:V:0", "-c", "copy", "-f", "framecrc"],
        name=path.name,
        on_line=reader,
    )
    if not reader.starts or reader.end <= 0:
        raise media_unreadable(path.name, "its video track is empty")
    return Timeline(tuple(sorted(reader.starts)), reader.end)


async def audio_length(ffmpeg: FFmpeg, path: Path) -> float:
    """Seconds from the file's start to the end of its first audio track, by decoding it: 0.0 when nothing sounds.
    Raises InputTooLarge when it is longer than MAX_SOUND_S."""
    decode = ["-map", "0:a:0", "-vn", "-t", str(MAX_SOUND_S + 1), "-f", "null", "-"]
    tick = await ffmpeg.run([*untrusted_input(path), *decode], name=path.name, doing="measuring the sound")
    if tick.seconds > MAX_SOUND_S:
        raise InputTooLarge(
            f"{path.name} is longer than {MAX_SOUND_S / 3600:g} hours.",
            hint="Cut it into shorter pieces.",
            where=path.name,
        )
    return tick.seconds


class _PacketReader:
    """Reads framecrc: `#tb 0: 1/12288`, then `stream, dts, pts, duration, …` a packet."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.starts: list[float] = []
        self.end = 0.0
        self._tick = 0.0

    def __call__(self, line: str) -> None:
        if line.startswith("#tb 0: "):
            over, under = line.removeprefix("#tb 0: ").split("/")
            self._tick = int(over) / int(under)
        elif line and not line.startswith("#"):
            _, dts, pts, duration = (int(field) for field in line.split(",")[:4])
            shown = pts if pts > -(2**62) else dts
            if len(self.starts) >= MAX_FRAMES:
                raise InputTooLarge(
                    f"{self._name} has more than {MAX_FRAMES:,} frames.",
                    hint="Cut it into shorter pieces.",
                    where=self._name,
                )
            self.starts.append(shown * self._tick)
            self.end = max(self.end, (shown + duration) * self._tick)
