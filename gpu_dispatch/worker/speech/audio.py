"""Decodes any media to Whisper's input: one channel at 16 kHz."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpu_dispatch.worker.speech.engine import SAMPLE_RATE, Samples
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, untrusted_input
from gpu_dispatch.worker.video.probe import probe_media
from manifests.errors import EncodeFailed, InputEmpty, InputMissing, InputTooLarge, MediaUnreadable

Pcm = NDArray[np.int16]
"""One channel at SAMPLE_RATE, as integers in a memory-mapped file: an hour takes 115 MB on disk, and only the part in
use is in memory."""

MAX_DURATION_S = 12 * 3600.0
SHORTEST_S = 0.1


async def decode_audio(path: Path, ffmpeg: FFmpeg, *, max_duration_s: float = MAX_DURATION_S) -> Pcm:
    """Decodes the first audio track of `path`.

    Times stay the file's own: silence fills a late start and gaps. Raises InputMissing, InputEmpty, MediaUnreadable,
    NoAudio, InputTooLarge, ResourceExhausted or TaskTimedOut.
    """
    name = path.name
    await asyncio.to_thread(_check_file, path)
    media = await probe_media(ffmpeg, path)
    media.require_audio()
    _check_longest(media.duration, name, max_duration_s)
    largest = int((max_duration_s + 2) * SAMPLE_RATE) * 2
    raw = path.with_name(f"{name}.pcm")
    try:
        arguments = [*_arguments(path, max_duration_s), f"file:{raw}"]
        await ffmpeg.run(arguments, name=name, doing="decoding", largest=largest)
        return await asyncio.to_thread(_opened, raw, name, max_duration_s)
    except EncodeFailed as e:
        raise MediaUnreadable(e.info.message, hint=e.info.hint, where=name, retryable=e.retryable) from e
    finally:
        raw.unlink(missing_ok=True)


def _opened(raw: Path, name: str, longest: float) -> Pcm:
    """Maps `raw` into memory; the file may be removed afterwards, as the mapping keeps its data."""
    seconds = raw.stat().st_size / 2 / SAMPLE_RATE
    if seconds < SHORTEST_S:
        raise MediaUnreadable(
            f"{name} holds no sound: {seconds:.2f} seconds of audio.", hint="Check that the file plays.", where=name
        )
    _check_longest(seconds, name, longest)
    return np.memmap(raw, np.int16, "r")


def to_samples(pcm: Pcm) -> Samples:
    return pcm.astype(np.float32) / np.float32(32768)


def _arguments(path: Path, max_duration_s: float) -> list[str]:
    track = ["-map", "0:a:0", "-vn", "-sn", "-dn"]
    timing = ["-af", "aresample=async=1:first_pts=0", "-t", str(max_duration_s + 1)]
    return [*untrusted_input(path), *track, *timing, "-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "s16le"]


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise InputMissing(
            f"{path.name} is not there.", hint="Check that the manifest names it correctly.", where=path.name
        )
    if path.stat().st_size == 0:
        raise InputEmpty(f"{path.name} is empty.", hint="Upload it again.", where=path.name)


def _check_longest(seconds: float, name: str, longest: float) -> None:
    if seconds > longest:
        raise InputTooLarge(
            f"{name} is longer than {longest / 3600:g} hours.", hint="Cut it into shorter pieces.", where=name
        )
