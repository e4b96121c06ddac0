"""How large an output may be, by what it is made of: for the worker that writes it, and whoever looks at it then."""

from __future__ import annotations

SMALLEST_LIMIT = 2**28
"""Bytes any output may have."""
GROWTH = 64
"""How many times as large as its inputs an output may be beyond that: speech at 6 kbit/s, kept as AAC, grows 32 times.
"""


def largest_from(inputs: int, most: int = 0) -> int:
    """Of a file made of `inputs` bytes; `most` is what any output may have, 0 for no such limit."""
    return _at_most(SMALLEST_LIMIT + GROWTH * inputs, most)


def largest_clip(frames: int, width: int, height: int, most: int = 0) -> int:
    """Of a video of so many frames: what they take raw."""
    return _at_most(SMALLEST_LIMIT + frames * width * height * 3 // 2, most)


def _at_most(size: int, most: int) -> int:
    return min(size, most) if most else size
