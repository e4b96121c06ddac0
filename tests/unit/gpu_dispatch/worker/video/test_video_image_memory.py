"""Pictures that are large once decoded: how much memory they take, and that nothing is lost on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpu_dispatch.worker.video.image import load_rgb
from manifests.errors import ImageTooLarge
from support.bombs import tiny_png

PEAK = """
import resource, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from gpu_dispatch.worker.video.image import load_rgb
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(load_rgb(Path(sys.argv[1]), enough=(3840, 2160)).shape)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
MOST_MIB = 800
"""100 million pixels are 400 MB in Pillow; the rest is what was made of them, and a band at a time."""


@pytest.mark.parametrize(("colour", "size"), [(6, (10_000, 10_000)), (4, (6000, 16_000))])
def test_a_few_bytes_take_no_gigabytes(tmp_path: Path, colour: int, size: tuple[int, int]) -> None:
    path = tiny_png(tmp_path / "a.png", *size, colour)
    assert path.stat().st_size < 150
    said = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True).stdout
    shape, mebibytes = said.splitlines()
    assert shape.endswith(", 3)") and int(mebibytes) < MOST_MIB


def test_formats_that_take_more_memory_may_hold_fewer_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_dispatch.worker.video.image.MAX_HEAVY_PIXELS", 9_999)
    for name, refused in {"a.jp2": True, "a.webp": True, "a.png": False}.items():
        Image.new("L", (100, 100)).save(tmp_path / name)
        if not refused:
            assert load_rgb(tmp_path / name).shape == (100, 100, 3)
            continue
        with pytest.raises(ImageTooLarge):
            load_rgb(tmp_path / name)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "I;16"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_is_shrunk_shows_the_same(tmp_path: Path, mode: str, orientation: int) -> None:
    """Against Pillow's own way: all of it at once, turned, then made smaller."""
    rows, columns = np.mgrid[0:301, 0:402]
    ramp = Image.fromarray(np.dstack([rows % 256, columns % 256, (rows + columns) % 256]).astype(np.uint8))
    picture = Image.fromarray((rows * 200).astype(np.uint16)) if mode == "I;16" else ramp.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path := tmp_path / "a.png", exif=exif)
    small, whole = load_rgb(path, enough=(100, 60)), load_rgb(path)
    assert small.shape[:2] == tuple(-(-side // 3) for side in whole.shape[:2])
    expected = np.asarray(Image.fromarray(whole).resize(small.shape[1::-1], Image.Resampling.BOX)).astype(int)
    assert np.median(np.abs(small.astype(int) - expected)) <= 3
