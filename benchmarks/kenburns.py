"""An image in slow motion: our worker beside ffmpeg's own zoompan, the old API's command, in one run.

python benchmarks/kenburns.py [--frames 120] [--rounds 3] [IMAGE]
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import ffmpeg
from rich.console import Console
from rich.table import Table

from gpu_dispatch.task import Clip, Img2VidParams
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.video.encoder import Encoder
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, find_ffmpeg
from gpu_dispatch.worker.video.img2vid import ImagesToVideo

SAMPLE = Path(__file__).parents[1] / "examples" / "samples" / "media" / "dawn.jpg"


def ours(image: Path, folder: Path, frames: int) -> None:
    (folder / "image").write_bytes(image.read_bytes())
    program = FFmpeg(find_ffmpeg(None))
    params = Img2VidParams(clips=(Clip("image", "ours.mp4", frames),))
    asyncio.run(ImagesToVideo(program, Encoder(program), parallel=1)(params, JobContext(folder, lambda _: None)))


def zoompan(image: Path, folder: Path, frames: int) -> None:
    """The old command, centred and ended: its zoom, its upscaling, the encoder our worker falls back to."""
    moving = ffmpeg.filter(
        ffmpeg.input(str(image), loop=1).filter("scale", 6720, 3840),
        "zoompan",
        z=f"min(1+0.324*on/{frames},1.324)",
        x="iw/2-(iw/zoom/2)",
        y="ih/2-(ih/zoom/2)",
        d=frames,
        s="1920x1080",
        fps=24,
    )
    options = {"frames:v": frames, "c:v": "libx264", "preset": "veryfast", "crf": 23, "pix_fmt": "yuv420p"}
    ffmpeg.output(moving, str(folder / "zoompan.mp4"), **options).run(
        cmd=find_ffmpeg(None), quiet=True, overwrite_output=True
    )


def cpu_seconds(work: Callable[[], None]) -> float:
    """Of this process and of those it started."""

    def now() -> float:
        kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, kinds))

    before = now()
    work()
    return now() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    spent: dict[str, list[float]] = {"ours": [], "zoompan": []}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(given.rounds):
            for label, work in (("ours", ours), ("zoompan", zoompan)):
                spent[label].append(cpu_seconds(lambda w=work: w(given.image, Path(name), given.frames)))
    table = Table("way", "CPU s (median)", "frames a CPU second", "ratio")
    limit = statistics.median(spent["zoompan"])
    for label, seconds in spent.items():
        middle = statistics.median(seconds)
        table.add_row(label, f"{middle:.2f}", f"{given.frames / middle:.0f}", f"{limit / middle:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
