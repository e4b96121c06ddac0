"""Reports this machine's video tools as one line of JSON: `python -m gpu_dispatch.worker.video.report [FFMPEG]`."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict, dataclass

from gpu_dispatch.worker.video.caption import FAMILY, bundled_folder, system_fonts
from gpu_dispatch.worker.video.encoder import Encoder
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, find_ffmpeg
from manifests.errors import GpuDropError

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class VideoReport:
    """The video tools of this machine."""

    ffmpeg: str = ""
    """Path of the program."""
    version: str = ""
    libass: bool = False
    libx264: bool = False
    encoder: str = ""
    no_nvenc: str = ""
    """Why frames are encoded on the CPU."""
    font: str = ""
    system_fonts: int = 0
    """Number of font files."""
    problem: str = ""
    """Why video operations cannot work; "" when they can."""


async def make_report(preferred: str | None) -> VideoReport:
    """Examines this machine; an unusable ffmpeg is reported as a `problem`, not raised."""
    try:
        ffmpeg = FFmpeg(find_ffmpeg(preferred))
        version = (await _lines(ffmpeg, "-version"))[0].split(" Copyright")[0].removeprefix("ffmpeg version ")
        libass = any(line.split()[1:2] == ["ass"] for line in await _lines(ffmpeg, "-filters"))
        libx264 = any(line.split()[1:2] == ["libx264"] for line in await _lines(ffmpeg, "-encoders"))
        choice = await Encoder(ffmpeg).choose()
    except GpuDropError as e:
        return VideoReport(problem=f"{e.info.message} {e.info.hint}".strip())
    lacks = " and ".join(name for name, there in (("libass", libass), ("libx264", libx264)) if not there)
    return VideoReport(
        ffmpeg=ffmpeg.path,
        version=version,
        libass=libass,
        libx264=libx264,
        encoder=choice.name,
        no_nvenc=choice.reason,
        font=f"{FAMILY} in {bundled_folder()}",
        system_fonts=len(system_fonts()),
        problem=f"This ffmpeg lacks {lacks}." if lacks else "",
    )


async def _lines(ffmpeg: FFmpeg, question: str) -> list[str]:
    found: list[str] = []
    await ffmpeg.ask([question], timeout_s=_TIMEOUT_S, on_output=found.append)
    return found or [""]


def main() -> None:
    preferred = sys.argv[1] if len(sys.argv) > 1 else None
    sys.stdout.write(json.dumps(asdict(asyncio.run(make_report(preferred)))) + "\n")


if __name__ == "__main__":
    main()
