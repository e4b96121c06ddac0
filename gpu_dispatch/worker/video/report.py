"""`python -m gpu_dispatch.worker.video.report [FFMPEG]`: what this machine can do with video, one line of JSON."""

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
class Report:
    """`problem` is "" when all is well enough to work; `no_nvenc` says why frames are encoded on the CPU."""

    ffmpeg: str = ""
    version: str = ""
    libass: bool = False
    libx264: bool = False
    encoder: str = ""
    no_nvenc: str = ""
    font: str = ""
    system_fonts: int = 0
    problem: str = ""


async def make_report(preferred: str | None) -> Report:
    """Never raises for what it finds: an unusable ffmpeg is a report with a `problem`."""
    try:
        ffmpeg = FFmpeg(find_ffmpeg(preferred))
        version = (await _lines(ffmpeg, "-version"))[0].split(" Copyright")[0].removeprefix("ffmpeg version ")
        libass = any(line.split()[1:2] == ["ass"] for line in await _lines(ffmpeg, "-filters"))
        libx264 = any(line.split()[1:2] == ["libx264"] for line in await _lines(ffmpeg, "-encoders"))
        choice = await Encoder(ffmpeg).choose()
    except GpuDropError as e:
        return Report(problem=f"{e.info.message} {e.info.hint}".strip())
    lacks = " and ".join(name for name, there in (("libass", libass), ("libx264", libx264)) if not there)
    return Report(
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
