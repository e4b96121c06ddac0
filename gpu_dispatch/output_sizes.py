"""Limits of an output's size by what it is made of, for the worker that writes it and the listener that checks it."""

from __future__ import annotations

SMALLEST_LIMIT = 2**28
"""Bytes that every output may have."""
GROWTH = 64
"""Further bytes of output for each byte of input: speech at 6 kbit/s, kept as AAC, grows 32 times."""
LOOP_GROWTH = 4096
"""Further bytes for each byte of the sound that a video is repeated under: speech at 6 kbit/s, frames at 25 Mbit/s."""


def largest_from(inputs: int, most: int = 0) -> int:
    """Returns the limit for a file made of `inputs` bytes; `most` limits any output, 0: no such limit."""
    return _at_most(SMALLEST_LIMIT + GROWTH * inputs, most)


def largest_looped(inputs: int, sound: int, most: int = 0) -> int:
    """Returns the limit for a video that lasts as long as its sound of `sound` bytes, one of the `inputs` bytes."""
    return _at_most(SMALLEST_LIMIT + GROWTH * inputs + LOOP_GROWTH * sound, most)


def largest_clip(frames: int, width: int, height: int, most: int = 0) -> int:
    """Returns the limit for a video of so many frames, by the size of raw frames."""
    return _at_most(SMALLEST_LIMIT + frames * width * height * 3 // 2, most)


def _at_most(size: int, most: int) -> int:
    return min(size, most) if most else size
