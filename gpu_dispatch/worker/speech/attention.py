"""Times of tokens by the attention of a decoder to the sound: a path through their matrix. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

FRAME_S = 0.02
"""Seconds of sound for one column of a matrix: Whisper's encoder gives fifty a second."""

MEDIAN_WIDTH = 7
"""Columns of the filter against stray peaks, as in the reference implementation."""

Matrix = NDArray[np.floating[Any]]


def token_starts(heads: Matrix, first: int, last: int) -> NDArray[np.float64]:
    """Returns the start in seconds of the tokens `first` up to but not including `last`.

    `heads` holds the attention of each head to the sound, by token and frame; rows sum to 1. All rows count for the
    normalisation, as in the reference implementation.
    """
    mean, deviation = heads.mean(axis=-2, keepdims=True), heads.std(axis=-2, keepdims=True)
    even = np.divide(heads - mean, deviation, out=np.zeros_like(heads), where=deviation > 0)
    matrix = _smoothed(even).mean(axis=0)[first:last]
    tokens, frames = cheapest_path(-matrix)
    return frames[np.append(True, np.diff(tokens) > 0)].astype(np.float64) * FRAME_S


def cheapest_path(costs: Matrix) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Returns rows and columns of the cheapest path from the first to the last cell of `costs`.

    Each step goes one row down, one column on, or both. Cells of one antidiagonal are computed together, in NumPy.
    """
    rows, columns = costs.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(2, rows + columns + 1):
        down = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1, dtype=np.intp)
        along = np.subtract(diagonal, down, dtype=np.intp)
        before = np.minimum(total[down - 1, along - 1], np.minimum(total[down - 1, along], total[down, along - 1]))
        total[down, along] = costs[down - 1, along - 1] + before
    path: list[tuple[int, int]] = []
    i, j = rows, columns
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        steps = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        i, j = min((s for s in steps if min(s) >= 0), key=lambda cell: float(total[cell]))
    found = np.array(path[::-1], np.intp).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _smoothed(heads: Matrix) -> Matrix:
    """Returns the median over MEDIAN_WIDTH columns; a matrix narrower than that stays as it is."""
    half = MEDIAN_WIDTH // 2
    if heads.shape[-1] <= half:
        return heads
    padded = np.pad(heads, [(0, 0)] * (heads.ndim - 1) + [(half, half)], mode="reflect")
    return np.median(sliding_window_view(padded, MEDIAN_WIDTH, axis=-1), axis=-1)
