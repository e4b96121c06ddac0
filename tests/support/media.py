"""Small media, made by ffmpeg and espeak-ng when first asked for, kept for the session."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import pytest

from support.requirements import require

MAKE_S = 120.0


def ffmpeg() -> str:
    return shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()


@dataclass(frozen=True)
class Media:
    """Each method gives a file that tests only read; the same arguments give the same file. Times in seconds."""

    folder: Path

    def tone(self, seconds: float = 1.0, *, hertz: int = 440, suffix: str = ".wav") -> Path:
        """A sine, mono, 16 kHz."""
        source = f"sine=frequency={hertz}:sample_rate=16000:duration={seconds}"
        return self.make(suffix, "-f", "lavfi", "-i", source)

    def silence(self, seconds: float = 1.0, *, suffix: str = ".wav") -> Path:
        return self.make(suffix, "-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", str(seconds))

    def image(self, width: int = 320, height: int = 180, *, suffix: str = ".png") -> Path:
        """A test card: it has edges, so that motion shows."""
        return self.make(suffix, "-f", "lavfi", "-i", f"testsrc2=size={width}x{height}", "-frames:v", "1")

    def video(
        self,
        seconds: float = 1.0,
        *,
        width: int = 320,
        height: int = 180,
        fps: int = 24,
        hertz: int = 0,
        suffix: str = ".mp4",
    ) -> Path:
        """A moving test card; with a tone of `hertz` when that is not 0."""
        picture = ("-f", "lavfi", "-i", f"testsrc2=size={width}x{height}:rate={fps}:duration={seconds}")
        sound = ("-f", "lavfi", "-i", f"sine=frequency={hertz}:duration={seconds}") if hertz else ()
        return self.make(suffix, *picture, *sound, "-pix_fmt", "yuv420p")

    def speech(self, text: str, *, voice: str = "en-us", suffix: str = ".wav") -> Path:
        """`text` spoken by one of espeak-ng's voices, with half a second of silence on both sides, 16 kHz."""
        espeak = shutil.which("espeak-ng")
        require(espeak, "espeak-ng is not installed.", "install the package espeak-ng")
        raw = self._path("speech.wav", voice, text)
        if not raw.exists():
            _run([str(espeak), "-v", voice, "-s", "150", "-w", str(raw), text])
        return self.make(suffix, "-i", str(raw), "-af", "adelay=500,apad=pad_dur=0.5", "-ar", "16000", "-ac", "1")

    def make(self, suffix: str, *arguments: str) -> Path:
        """What ffmpeg writes when it is called with `arguments`."""
        path = self._path(suffix, *arguments)
        if not path.exists():
            part = path.with_name("part-" + path.name)
            _run([ffmpeg(), "-nostdin", "-loglevel", "error", "-y", *arguments, str(part)])
            part.rename(path)
        return path

    def _path(self, suffix: str, *parts: str) -> Path:
        return self.folder / (hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16] + suffix)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAKE_S, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    return Media(tmp_path_factory.mktemp("media"))
