"""Limits of an output's size by what it is made of, for the worker that writes it and the listener that checks it."""

from __future__ import annotations

SMALLEST_LIMIT = 2**28
"""Bytes that every output may have."""
GROWTH = 64
"""Further bytes of output for each byte of input: speech at 6 kbit/s, kept as AAC, grows 32 times."""


def largest_from(inputs: int, most: int = 0) -> int:
    """Returns the limit for a file made of `inputs` bytes; `most` limits any output, 0: no such limit."""
    return _at_most(SMALLEST_LIMIT + GROWTH * inputs, most)


def largest_clip(frames: int, width: int, height: int, most: int = 0) -> int:
    """Returns the limit for a video of so many frames, by the size of raw frames."""
    return _at_most(SMALLEST_LIMIT + frames * width * height * 3 // 2, most)


def _at_most(size: int, most: int) -> int:
    return min(size, most) if most else size
